// Written by static/admin/build.mjs: the files of the console, by name, type and content.
&[
    ("app.MGLN3G4U.js", "text/javascript; charset=utf-8", include_bytes!("app.MGLN3G4U.js")),
    ("chunk.ROKODM6R.js", "text/javascript; charset=utf-8", include_bytes!("chunk.ROKODM6R.js")),
    ("chunk.W27TOBBP.js", "text/javascript; charset=utf-8", include_bytes!("chunk.W27TOBBP.js")),
    ("home.3OAJ332N.js", "text/javascript; charset=utf-8", include_bytes!("home.3OAJ332N.js")),
    ("index.html", "text/html; charset=utf-8", include_bytes!("index.html")),
    ("login.N6GTGOPX.js", "text/javascript; charset=utf-8", include_bytes!("login.N6GTGOPX.js")),
    ("style.7T2SAA3Z.css", "text/css; charset=utf-8", include_bytes!("style.7T2SAA3Z.css")),
]
