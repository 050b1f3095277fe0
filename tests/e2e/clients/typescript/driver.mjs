// What both TypeScript drivers share: read the task, do the actions, print one line each.
// The actions and the answer's members are listed in ../README.md.
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Read `{url, headers, actions}` from standard input and do the actions.
 * `connect(task, fetch)` makes a connected client; `callTool(client, params, options)` hides the
 * one signature in which the SDK's two major versions differ.
 */
export async function drive({ connect, callTool }) {
  const task = JSON.parse(await text(process.stdin));
  const seen = { status: null };
  const watchedFetch = async (url, init) => {
    const response = await fetch(url, init);
    // 202 answers a notification: one from before may come after the answer to a call.
    const isLast = response.status !== 202 || seen.status === null;
    if (init?.method === 'POST' && isLast) seen.status = response.status;
    return response;
  };
  let client;
  try {
    client = await connect(task, watchedFetch);
  } catch (error) {
    for (const { action } of task.actions) {
      print({ action, stage: 'connect', ...failure(error, seen), progress: [] });
    }
    return;
  }
  for (const action of task.actions) print(await answer(client, callTool, action, seen));
  await client.close();
}

async function answer(client, callTool, action, seen) {
  const progress = [];
  const head = { action: action.action, stage: 'action' };
  seen.status = null;
  try {
    const result = await perform(client, callTool, action, progress);
    return { ...head, ok: true, result, http_status: seen.status, progress };
  } catch (error) {
    return { ...head, ...failure(error, seen), progress };
  }
}

async function perform(client, callTool, action, progress) {
  const params = { name: action.name, arguments: action.arguments };
  const onprogress = told => progress.push(told);
  switch (action.action) {
    case 'connect':
      return { protocolVersion: client.transport.protocolVersion };
    case 'list_tools':
      return client.listTools();
    case 'list_resources':
      return client.listResources();
    case 'list_prompts':
      return client.listPrompts();
    case 'read_resource':
      return client.readResource({ uri: action.uri });
    case 'get_prompt':
      return client.getPrompt(params);
    case 'call_tool':
      return callTool(client, params, action.progress ? { onprogress } : {});
    case 'cancel_tool':
      return cancel(client, callTool, params, action.after_progress ?? 1, progress);
    case 'notify':
      await client.notification({ method: action.method, params: action.params });
      return {};
    case 'sleep':
      await sleep(action.seconds * 1000);
      return {};
    default:
      throw new Error(`unknown action \`${action.action}\`: see README.md`);
  }
}

/** Call, and cancel after so many progress notifications. */
async function cancel(client, callTool, params, enough, progress) {
  const abort = new AbortController();
  const onprogress = told => {
    progress.push(told);
    if (progress.length === enough) abort.abort();
  };
  try {
    await callTool(client, params, { onprogress, signal: abort.signal });
  } catch (error) {
    if (!abort.signal.aborted) throw error;
    return { cancelled: true };
  }
  return { cancelled: false };
}

function failure(error, seen) {
  const { code = null, message, data = null } = error;
  const type = error.constructor.name;
  return { ok: false, error: { type, code, message, data, http_status: seen.status } };
}

function print(line) {
  process.stdout.write(`${JSON.stringify(line)}\n`);
}
