#!/bin/sh
# Restore databases from FOLDER/DATABASE.dump: restore.sh [--replace] FOLDER DATABASE...
# Each must exist and be empty; --replace drops what it holds and makes it anew, with the same owner. Stop the servers
# that use it first. The server is where PGHOST, PGPORT and PGUSER say; the password comes from PGPASSWORD_FILE,
# PGPASSFILE or PGPASSWORD.
set -eu

replace=no
if [ "${1:-}" = --replace ]; then
    replace=yes
    shift
fi
if [ "$#" -lt 2 ]; then
    echo "restore: usage: restore.sh [--replace] FOLDER DATABASE..." >&2
    exit 2
fi
folder=$1
shift
if [ -n "${PGPASSWORD_FILE:-}" ]; then
    PGPASSWORD=$(cat "$PGPASSWORD_FILE")
    export PGPASSWORD
fi

ask() { # DATABASE QUERY
    psql --no-psqlrc --tuples-only --no-align --set=ON_ERROR_STOP=1 --dbname="$1" --command="$2"
}

# All dumps are looked at before the first database is touched.
for database in "$@"; do
    case $database in
        "" | *[!a-z0-9_]*) echo "restore: '$database' is no name of a database" >&2; exit 2 ;;
    esac
    pg_restore --list "$folder/$database.dump" >/dev/null
done
for database in "$@"; do
    tables=$(ask "$database" "SELECT count(*) FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')")
    if [ "$replace" = yes ]; then
        owner=$(ask "$database" "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()")
        dropdb --force "$database"
        createdb --owner="$owner" "$database"
        ask "$database" "REVOKE CONNECT ON DATABASE $database FROM PUBLIC" >/dev/null
    elif [ "$tables" -ne 0 ]; then
        echo "restore: $database holds $tables tables; --replace drops them" >&2
        exit 2
    fi
    pg_restore --exit-on-error --single-transaction --dbname="$database" "$folder/$database.dump"
    echo "restore: $database is as in $folder/$database.dump"
done
