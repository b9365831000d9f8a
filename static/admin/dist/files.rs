// Written by static/admin/build.mjs: the files of the console, by name, type and content.
&[
    ("app.PQW3PTED.js", "text/javascript; charset=utf-8", include_bytes!("app.PQW3PTED.js")),
    ("audit.W4PDD7LL.js", "text/javascript; charset=utf-8", include_bytes!("audit.W4PDD7LL.js")),
    ("chunk.2JOCF6NI.js", "text/javascript; charset=utf-8", include_bytes!("chunk.2JOCF6NI.js")),
    ("chunk.4YGUMY23.js", "text/javascript; charset=utf-8", include_bytes!("chunk.4YGUMY23.js")),
    ("chunk.B2XF5OWC.js", "text/javascript; charset=utf-8", include_bytes!("chunk.B2XF5OWC.js")),
    ("core.D5QACHHM.js", "text/javascript; charset=utf-8", include_bytes!("core.D5QACHHM.js")),
    ("event.4KAWKN4S.js", "text/javascript; charset=utf-8", include_bytes!("event.4KAWKN4S.js")),
    ("events.5YKH35CL.js", "text/javascript; charset=utf-8", include_bytes!("events.5YKH35CL.js")),
    ("home.LJL7ACXB.js", "text/javascript; charset=utf-8", include_bytes!("home.LJL7ACXB.js")),
    ("index.html", "text/html; charset=utf-8", include_bytes!("index.html")),
    ("live.2W7426CE.js", "text/javascript; charset=utf-8", include_bytes!("live.2W7426CE.js")),
    ("login.FIBORB7B.js", "text/javascript; charset=utf-8", include_bytes!("login.FIBORB7B.js")),
    ("people.6BBX65AT.js", "text/javascript; charset=utf-8", include_bytes!("people.6BBX65AT.js")),
    ("qr.DKNLDO4T.js", "text/javascript; charset=utf-8", include_bytes!("qr.DKNLDO4T.js")),
    ("style.GCPPJSMU.css", "text/css; charset=utf-8", include_bytes!("style.GCPPJSMU.css")),
    ("trace.6ZM5SJXC.js", "text/javascript; charset=utf-8", include_bytes!("trace.6ZM5SJXC.js")),
]
