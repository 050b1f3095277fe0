// What pages do beyond links and forms. All of it is an addition: without it they work, too.
import "./times.js";
import "./keyboard.js";
import "./live.js";
