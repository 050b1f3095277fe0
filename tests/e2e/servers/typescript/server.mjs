// An MCP server on one TypeScript SDK that keeps which tools ran: `node server.mjs v1|v2 PORT`.
// v1: legacy era; v2: both. Without sessions; `GET /executed` lists the tools that ran, in order.
import { createServer } from 'node:http';

import { getRequestListener } from '@hono/node-server';
import { McpServer as McpServerV1 } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import { McpServer as McpServerV2, createMcpHandler } from '@modelcontextprotocol/server';

const executed = [];

function withTools(McpServer) {
  const server = new McpServer({ name: 'recorder', version: '1.0.0' });
  for (const name of ['echo', 'refund']) {
    server.registerTool(name, { description: name }, () => {
      executed.push(name);
      return { content: [{ type: 'text', text: name }] };
    });
  }
  return server;
}

async function answerV1(request, response) {
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: undefined,
    enableJsonResponse: true
  });
  await withTools(McpServerV1).connect(transport);
  await transport.handleRequest(request, response);
}

const handler = createMcpHandler(() => withTools(McpServerV2), { responseMode: 'json' });
const answerV2 = getRequestListener(request => handler.fetch(request));

const [version, port] = process.argv.slice(2);
const answer = { v1: answerV1, v2: answerV2 }[version];
createServer(async (request, response) => {
  if (request.url === '/executed') {
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify(executed));
    return;
  }
  try {
    await answer(request, response);
  } catch (error) {
    if (!response.headersSent) response.writeHead(500);
    response.end(String(error));
  }
}).listen(Number(port), '127.0.0.1');
