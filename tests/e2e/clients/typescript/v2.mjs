// The TypeScript SDK's second major version: `node v2.mjs legacy|auto`.
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

import { drive } from './driver.mjs';

await drive({
  async connect({ url, headers }, fetch) {
    const client = new Client(
      { name: 'typescript-v2', version: '1.0.0' },
      { versionNegotiation: { mode: process.argv[2] } }
    );
    const transport = new StreamableHTTPClientTransport(new URL(url), {
      fetch,
      requestInit: { headers }
    });
    await client.connect(transport);
    return client;
  },
  callTool: (client, params, options) => client.callTool(params, options)
});
