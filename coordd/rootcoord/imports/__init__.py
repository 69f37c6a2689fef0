"""Bulk inserts: a file becomes a task, a data node carries it out, its segments become visible as a whole.

One etcd record per task (`importtask/<id>`, data.ImportTaskInfo) is all the state there is; whoever leads
goes on from it. `states` says what may become of a task, `requests` makes one out of a request, `agenda` says
what is to be done now: all three are pure. `records` writes it, `driver` does it. What must hold is said in
`states`.
"""
