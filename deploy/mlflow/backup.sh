#!/bin/sh
# Back databases up, each into FOLDER/DATABASE.dump: backup.sh FOLDER DATABASE...
# The server is where PGHOST, PGPORT and PGUSER say; the password comes from PGPASSWORD_FILE, PGPASSFILE or PGPASSWORD.
set -eu
umask 077

if [ "$#" -lt 2 ]; then
    echo "backup: usage: backup.sh FOLDER DATABASE..." >&2
    exit 2
fi
folder=$1
shift
if [ -n "${PGPASSWORD_FILE:-}" ]; then
    PGPASSWORD=$(cat "$PGPASSWORD_FILE")
    export PGPASSWORD
fi

mkdir -p "$folder"
for database in "$@"; do
    case $database in
        "" | *[!a-z0-9_]*) echo "backup: '$database' is no name of a database" >&2; exit 2 ;;
    esac
    if [ -e "$folder/$database.dump" ]; then
        echo "backup: $folder/$database.dump is there already; take a new folder" >&2
        exit 2
    fi
done
for database in "$@"; do
    part=$folder/.$database.part
    pg_dump --format=custom --file="$part" "$database"
    pg_restore --list "$part" >"$folder/$database.list"
    mv "$part" "$folder/$database.dump"
    echo "backup: $folder/$database.dump ($(grep -c 'TABLE DATA' "$folder/$database.list" || true) tables)"
done
