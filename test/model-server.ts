import type { Verdict } from "../src/doc-verdict.ts";

/*
 * A server on loopback with an OpenAI-compatible API that gives scripted answers: no model is involved.
 */

/** A verdict as a model writes it. */
export const VERDICT: Verdict = {
  risk: "low",
  summary: "Two packages are upgraded from the distribution's own archive.",
  supply_chain_risk: "low",
  privilege_risk: "low",
  persistence_risk: "low",
  availability_risk: "low",
  rollback_difficulty: "easy",
  red_flags: [],
  required_controls: [],
  recommendation: "auto_approve",
};

/** One request as the server read it. */
export interface Asked {
  method: string;
  /** With the query: `/v1/chat/completions`. */
  path: string;
  headers: Headers;
  /** Parsed JSON; null for a GET. */
  body: unknown;
}
/** Handles one request. `ended` settles when the client has hung up or the server stops. */
export type Behaviour = (asked: Asked, ended: Promise<void>) => Response | Promise<Response>;

export interface ModelServer extends Disposable {
  /** For AEGIS_AI_BASE_URL. */
  url: string;
  /** Every request, in order. */
  asked: Asked[];
  /** Requests that wait for an answer and whose client is still connected. */
  readonly open: number;
  /** Peak of `open`. */
  readonly mostOpen: number;
  /** Sets the coming behaviours: each is used once, the last one for ever. */
  behave(...behaviours: [Behaviour, ...Behaviour[]]): void;
  stop(): void;
}

/** Starts a server. `GET …/models` names `models`; every other request gets the next behaviour. */
export function startModelServer(
  behaviours: [Behaviour, ...Behaviour[]] = [says(JSON.stringify(VERDICT))],
  models: readonly string[] = ["deepseek-v4-flash"],
): ModelServer {
  const asked: Asked[] = [];
  let [waiting, turn, open, mostOpen] = [behaviours, 0, 0, 0];
  const { promise: stopped, resolve: release } = Promise.withResolvers<void>();
  const server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    // Otherwise Bun ends a silent connection after 10 s and prints the error of an aborted body.
    idleTimeout: 0,
    development: false,
    async fetch(request) {
      const { method, headers } = request;
      const { pathname, search } = new URL(request.url);
      const one: Asked = { method, path: pathname + search, headers, body: null };
      asked.push(one);
      if (method === "POST") one.body = await request.json();
      if (method === "GET" && pathname.endsWith("/models") && models.length > 0) {
        return Response.json({ object: "list", data: models.map((id) => ({ id, object: "model" })) });
      }
      const behaviour = waiting[Math.min(turn++, waiting.length - 1)] ?? waiting[0];
      mostOpen = Math.max(mostOpen, ++open);
      const hungUp = new Promise<void>((resolve) => {
        request.signal.addEventListener("abort", () => resolve(), { once: true });
      });
      try {
        return await behaviour(one, Promise.race([stopped, hungUp]));
      } finally {
        open--;
      }
    },
  });
  const stop = () => {
    release();
    void server.stop(true);
  };
  return {
    url: `http://127.0.0.1:${server.port}/v1`,
    asked,
    get open() {
      return open;
    },
    get mostOpen() {
      return mostOpen;
    },
    behave(...next) {
      [waiting, turn] = [next, 0];
    },
    stop,
    [Symbol.dispose]: stop,
  };
}

/** The body of a completion with one message, as a server writes it. */
export function completion(message: object, finish_reason: string | null = "stop"): string {
  return JSON.stringify({
    id: "chatcmpl-1",
    object: "chat.completion",
    created: 1_780_000_000,
    model: "deepseek-v4-flash",
    choices: [{ index: 0, message: { role: "assistant", ...message }, finish_reason }],
    usage: { prompt_tokens: 900, completion_tokens: 120, total_tokens: 1020 },
  });
}

const json = (body: string, status = 200) =>
  new Response(body, { status, headers: { "content-type": "application/json" } });

/** Answers with this body, as JSON. */
export const answers =
  (body: string): Behaviour =>
  () =>
    json(body);

/** A completion with this content. */
export const says = (content: string): Behaviour => answers(completion({ content }));

/** A completion with this content, after a delay. */
export const thinks =
  (ms: number, content: string = JSON.stringify(VERDICT)): Behaviour =>
  async (asked, ended) => {
    await Promise.race([Bun.sleep(ms), ended]);
    return says(content)(asked, ended);
  };

/** A status other than 200, with an error in OpenAI's format. */
export const fails =
  (status: number, message = `made to fail with ${status}`): Behaviour =>
  () =>
    json(JSON.stringify({ error: { message, type: "error", code: status } }), status);

/** Refuses requests whose response_format has one of these types; otherwise `then` answers. */
export const refusesFormat =
  (types: readonly string[], then: Behaviour, status = 400): Behaviour =>
  (asked, ended) => {
    const type = (asked.body as { response_format?: { type?: string } } | null)?.response_format?.type;
    const refused = type !== undefined && types.includes(type);
    return (refused ? fails(status, `response_format ${type} is not supported`) : then)(asked, ended);
  };

/** Never answers. */
export const hangs: Behaviour = async (_asked, ended) => {
  await ended;
  return json("{}");
};

/** Sends half of a completion, then nothing more. */
export const hangsMidBody: Behaviour = () =>
  streamed((send) => send(completion({ content: "x" }).slice(0, 80)));

/** Sends half of a completion and cuts the connection. */
export const breaksOff: Behaviour = () =>
  streamed(async (send, controller) => {
    send(completion({ content: "x" }).slice(0, 80));
    await Bun.sleep(20);
    controller.error(new Error("cut"));
  });

/** A whole body, in chunks of some characters. */
export const drips =
  (body: string, everyMs: number, chars = 16): Behaviour =>
  () =>
    streamed(async (send, controller) => {
      for (let at = 0; at < body.length; at += chars) {
        send(body.slice(at, at + chars));
        await Bun.sleep(everyMs);
      }
      controller.close();
    });

/** An endless body. */
export const endless: Behaviour = () => {
  const chunk = new Uint8Array(64 * 1024).fill(0x20);
  return new Response(
    new ReadableStream({
      async pull(controller) {
        controller.enqueue(chunk);
        await Bun.sleep(0);
      },
    }),
    { headers: { "content-type": "application/json" } },
  );
};

export const redirects =
  (to: string, status = 307): Behaviour =>
  () =>
    new Response(null, { status, headers: { location: to } });

/** An HTML page, as a proxy or another server would send. */
export const html: Behaviour = () =>
  new Response("<!DOCTYPE html><title>It works!</title>", { headers: { "content-type": "text/html" } });

/** An event stream that was not requested. */
export const eventStream: Behaviour = () => {
  const chunk = JSON.stringify({ choices: [{ index: 0, delta: { content: JSON.stringify(VERDICT) } }] });
  return new Response(`data: ${chunk}\n\ndata: [DONE]\n\n`, {
    headers: { "content-type": "text/event-stream" },
  });
};

type Send = (text: string) => void;

function streamed(
  write: (send: Send, controller: ReadableStreamDefaultController<Uint8Array>) => void | Promise<void>,
): Response {
  const body = new ReadableStream<Uint8Array>({
    async start(controller) {
      try {
        await write((text) => controller.enqueue(new TextEncoder().encode(text)), controller);
      } catch {
        // The client has hung up.
      }
    },
  });
  return new Response(body, { headers: { "content-type": "application/json" } });
}
