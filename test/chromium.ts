import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { debianPackages } from "./debian-packages.ts";
import { ROOT } from "./kit.ts";

/*
 * A real Chromium without a window: this machine's own, or Debian's package unpacked under node_modules/.cache, never installed.
 */

const CACHE = join(ROOT, "node_modules/.cache/chromium");
const PROGRAM = join(CACHE, "usr/lib/chromium/chromium");

/** The program and its libraries; null where it can't be had. */
export function findChromium(): { program: string; libraries: string } | null {
  const installed = Bun.which("chromium") ?? Bun.which("google-chrome");
  if (installed !== null) return { program: installed, libraries: "" };
  if (!existsSync(PROGRAM) && !unpack()) return null;
  const triplet = readdirSync(join(CACHE, "usr/lib")).find((name) => name.endsWith("-linux-gnu")) ?? "";
  const libraries = join(CACHE, "usr/lib", triplet);
  return { program: PROGRAM, libraries: `${libraries}:${join(libraries, "pulseaudio")}` };
}

function unpack(): boolean {
  const directory = existsSync("/usr/bin/apt-get") ? debianPackages("chromium") : null;
  if (directory === null) return false;
  const work = `${CACHE}.${process.pid}`;
  mkdirSync(work, { recursive: true });
  for (const deb of readdirSync(directory).filter((name) => name.endsWith(".deb"))) {
    const { status } = spawnSync("dpkg-deb", ["-x", join(directory, deb), work]);
    if (status !== 0) return false;
  }
  rmSync(CACHE, { recursive: true, force: true });
  return spawnSync("mv", [work, CACHE]).status === 0;
}

/** What a page came to. */
export interface Seen {
  /** What the expression gave. */
  value: unknown;
  /** Addresses that the page asked for, itself included. */
  requested: string[];
  /** Messages of its console and the browser about it, such as breaches of its content security policy. */
  messages: string[];
  /** PNG. */
  screenshot: Buffer;
}

interface Answer {
  id?: number;
  method?: string;
  params?: Record<string, unknown>;
  result?: Record<string, unknown>;
}

/** Opens pages one after the other; `close` ends the browser. */
export async function startChromium({ program, libraries }: { program: string; libraries: string }) {
  const home = mkdtempSync(join(tmpdir(), "aegis-chromium-"));
  const child = spawn(
    program,
    [
      ...["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"],
      ...["--remote-debugging-port=0", `--user-data-dir=${home}`, "about:blank"],
    ],
    {
      env: { HOME: home, PATH: "/usr/bin:/bin", LC_ALL: "C.UTF-8", LD_LIBRARY_PATH: libraries },
      stdio: ["ignore", "ignore", "pipe"],
    },
  );
  const address = await new Promise<string>((resolve, reject) => {
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => {
      said += chunk.toString();
      const found = /DevTools listening on (ws:\/\/\S+)/.exec(said)?.[1];
      if (found !== undefined) resolve(found);
    });
    child.on("exit", () => reject(new Error(`chromium ended: ${said}`)));
  });
  const base = address.replace(/^ws:/, "http:").replace(/\/devtools.*$/, "");

  return {
    /** Opens `url` in a window so wide, and evaluates an expression in it. */
    async open(url: string, width: number, dark: boolean, expression: string): Promise<Seen> {
      const target = (await (
        await fetch(`${base}/json/new?about:blank`, { method: "PUT", proxy: "" })
      ).json()) as { webSocketDebuggerUrl: string; id: string };
      const socket = new WebSocket(target.webSocketDebuggerUrl);
      const waiting = new Map<number, (answer: Answer) => void>();
      const [requested, messages]: [string[], string[]] = [[], []];
      const loaded = Promise.withResolvers<void>();
      socket.addEventListener("message", ({ data }) => {
        const answer = JSON.parse(String(data)) as Answer;
        if (answer.id !== undefined) waiting.get(answer.id)?.(answer);
        const { method, params = {} } = answer;
        if (method === "Page.loadEventFired") loaded.resolve();
        if (method === "Network.requestWillBeSent")
          requested.push((params["request"] as { url: string }).url);
        if (method === "Log.entryAdded") messages.push((params["entry"] as { text: string }).text);
        if (method === "Runtime.consoleAPICalled" || method === "Page.javascriptDialogOpening")
          messages.push(method);
      });
      await new Promise((resolve) => socket.addEventListener("open", resolve));
      let last = 0;
      const call = (method: string, params: object = {}) =>
        new Promise<Record<string, unknown>>((resolve) => {
          const id = ++last;
          waiting.set(id, (answer) => resolve(answer.result ?? {}));
          socket.send(JSON.stringify({ id, method, params }));
        });
      for (const domain of ["Page", "Network", "Log", "Runtime"]) await call(`${domain}.enable`);
      await call("Emulation.setDeviceMetricsOverride", {
        ...{ width, height: 1000, deviceScaleFactor: 1, mobile: false },
      });
      const features = [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }];
      await call("Emulation.setEmulatedMedia", { features });
      await call("Page.navigate", { url });
      await loaded.promise;
      const evaluated = await call("Runtime.evaluate", { expression, returnByValue: true });
      const shot = await call("Page.captureScreenshot", { format: "png", captureBeyondViewport: true });
      socket.close();
      await fetch(`${base}/json/close/${target.id}`, { proxy: "" });
      return {
        value: (evaluated["result"] as { value?: unknown } | undefined)?.value,
        requested,
        messages,
        screenshot: Buffer.from(String(shot["data"]), "base64"),
      };
    },
    async close(): Promise<void> {
      const ended = new Promise((resolve) => child.on("exit", resolve));
      child.kill("SIGKILL");
      await ended;
      rmSync(home, { recursive: true, force: true });
    },
  };
}
