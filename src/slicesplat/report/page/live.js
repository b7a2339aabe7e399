"use strict";

/* As long as this is open, the page is: the server ends when it closes. */
const openPage = new EventSource(page.live);
openPage.onerror = () => { if (openPage.readyState === EventSource.CLOSED) document.title = `Ended: ${document.title}`; };
