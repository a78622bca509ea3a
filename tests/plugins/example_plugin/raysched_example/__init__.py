"""A plug-in of raysched, to copy: two schedules and a task, in a package of their own.

1. Copy this folder and its `pyproject.toml`, and give package and entry points names of your own: the name of an entry
   point is what a study says (`search.schedule: [least-fisher]`, `task: qa-contains`).
2. A schedule is a `Rule`: a SELECT function, what is awake before step 1, and whether it needs k and traces.
3. A task is a class with the interface of `raysched.tasks.task.Task`; deriving it from a built-in one is short.
4. `pip install .` where raysched is installed, on every machine of a cluster.
5. Studies know them now: `raysched run xquad-mini --set search.schedule='[pairs]' --point schedule=pairs`.

A run's identity holds the package's name and version: raise the version when results change.
"""
