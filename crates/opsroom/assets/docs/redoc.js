// Search runs in a worker made from a blob, which the page's policy forbids.
Redoc.init("/openapi.json", { disableSearch: true, hideDownloadButton: false, nativeScrollbars: true }, document.getElementById("docs"));
