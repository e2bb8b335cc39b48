"""Routes: one file per kind of resource; `upnext.serving.app` lists them."""
