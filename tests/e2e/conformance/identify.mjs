// Preloaded into the suite, which has no option for headers: every request says who calls.
import { subscribe } from "node:diagnostics_channel";

const NAME = "x-mcp-agent-id";
const AGENT = "conformance-agent";

// The suite sends by fetch and by undici, and what these would not send by node:http.
subscribe("undici:request:create", ({ request }) => request.addHeader(NAME, AGENT));
subscribe("http.client.request.created", ({ request }) => request.setHeader(NAME, AGENT));
