(()=>{addEventListener("pageshow",({persisted:w})=>{w&&(window.tagway.flush(2),window.tagway.settings.restored&&window.tagway.page())});})();
