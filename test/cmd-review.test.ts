import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { reviewCompleted, subjectDetails } from "../src/audit-subject.ts";
import { canonicalHash, canonicalJson } from "../src/canonical.ts";
import { readDocument } from "../src/doc.ts";
import { buildWhereNeeded, PROGRAMS, start } from "./kit.ts";
import {
  answers,
  type Behaviour,
  breaksOff,
  completion,
  drips,
  endless,
  eventStream,
  fails,
  hangs,
  hangsMidBody,
  html,
  type ModelServer,
  redirects,
  refusesFormat,
  says,
  startModelServer,
  VERDICT,
} from "./model-server.ts";
import { review as aReview, install, upgrade } from "./policy-plans.ts";

/*
 * `aegis review` and `aegis policy --review` as whole commands. The model's server is ours; see model-server.ts.
 */

let server: ModelServer;
let home = "";
beforeAll(() => {
  buildWhereNeeded();
  server = startModelServer();
});
afterAll(() => server.stop());
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "aegis-review-"));
});
afterEach(() => rmSync(home, { recursive: true }));

/** Of Bun, for what it would write where it runs the sources. */
const NO_CACHE = { BUN_RUNTIME_TRANSPILER_CACHE_PATH: "0" };
const files = () => readdirSync(home, { recursive: true }).map(String).sort();

describe.each(Object.entries(PROGRAMS))("%s", (_name, program) => {
  const run = (words: readonly string[], env: Record<string, string> = {}) =>
    start([...program, ...words], {
      cwd: home,
      env: { HOME: home, PATH: "/usr/bin:/bin", ...NO_CACHE, AEGIS_AI_BASE_URL: server.url, ...env },
    });
  const review = async (behaviour: Behaviour, env: Record<string, string> = {}) => {
    server.behave(behaviour);
    writeFileSync(join(home, "plan.json"), canonicalJson(install()));
    return run(["review", "plan.json", "--direct"], env);
  };

  const soon = { AEGIS_AI_REVIEW_TIMEOUT_SECS: "1" };
  const elsewhere = "http://10.255.255.1/v1";
  test.each<[string, Behaviour, Record<string, string>, string]>([
    ["a server that is down", hangs, { AEGIS_AI_BASE_URL: "http://127.0.0.1:1/v1" }, "AEGIS_AI_BASE_URL"],
    ["another machine", hangs, { AEGIS_AI_BASE_URL: elsewhere }, "AEGIS_AI_ALLOW_REMOTE=1"],
    ["no answer at all", hangs, soon, "timeout"],
    ["an answer that stops halfway", hangsMidBody, soon, "timeout"],
    ["an answer drop by drop", drips(" ".repeat(10_000), 100), soon, "timeout"],
    ["a connection that is cut", breaksOff, {}, "unavailable"],
    ["500", fails(500), {}, "500"],
    ["429", fails(429), {}, "429"],
    ["401", fails(401), {}, "AEGIS_AI_API_KEY"],
    ["404", fails(404), {}, "404"],
    ["no format is good enough", refusesFormat(["json_schema", "json_object"], fails(400)), {}, "400"],
    ["a page", html, {}, "text/html"],
    ["a stream", eventStream, {}, "text/event-stream"],
    ["a redirect to another machine", redirects(`${elsewhere}/chat/completions`), {}, "redirect"],
    ["a redirect on this machine", redirects("/v1/chat/completions2", 302), {}, "redirect"],
    ["no end", endless, {}, "larger than"],
  ])("%s: exit 8 and nothing is written", async (_what, behaviour, env, word) => {
    const { status, stdout, stderr } = await review(behaviour, env);
    expect({ status, stdout }).toEqual({ status: 8, stdout: "" });
    expect(stderr).toContain(word);
    // A second line says what to type or do.
    expect(stderr.trimEnd().split("\n").at(-1)).toMatch(/^ {2}\S/);
    expect(files()).toEqual(["plan.json"]);
  });

  test.each([
    ["no verdict", completion({ content: "I would rather not say." })],
    [
      "two verdicts",
      completion({ content: `${JSON.stringify(VERDICT)} ${JSON.stringify({ ...VERDICT, risk: "deny" })}` }),
    ],
    ["a field more", completion({ content: JSON.stringify({ ...VERDICT, decision: "allow" }) })],
    ["cut by the limit", completion({ content: '{"risk":"low"' }, "length")],
    ["escapes", completion({ content: "\u001b[2J\u202eallow\u0007" })],
  ])("%s: exit 8, the reply is kept, no review", async (_what, body) => {
    const { status, stdout, stderr } = await review(answers(body));
    expect({ status, stdout }).toEqual({ status: 8, stdout: "" });
    expect(stderr).toContain("[model_reply]");
    expect(stderr).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u202e]/);
    const kept = files().filter((path) => path.includes("reviews/"));
    expect(kept).toEqual([`.local/share/aegis/reviews/${install().plan_id}.reply.json`]);
    expect(stderr).toContain(kept[0] ?? "");
    expect(readFileSync(join(home, kept[0] ?? ""), "utf8")).toBe(body);
  });

  test("a review is bound to its plan, kept with the reply, and policy takes it into account", async () => {
    const plan = upgrade({ created_at: new Date().toISOString() });
    writeFileSync(join(home, "plan.json"), canonicalJson(plan));
    server.behave(says(JSON.stringify({ ...VERDICT, red_flags: ["it phones home"], risk: "high" })));
    const { status, stdout } = await run(["review", "plan.json", "--direct", "--json"]);
    expect(status).toBe(0);
    const { review: made, path, reply_path } = JSON.parse(stdout);
    expect(readDocument("review", readFileSync(path, "utf8")).document).toEqual(made);
    expect(JSON.parse(readFileSync(reply_path, "utf8")).choices[0].message.content).toContain("phones home");
    expect((await run(["policy", "plan.json"])).status).toBe(5);
    const decided = await run(["policy", "plan.json", "--review", path]);
    expect(decided.status).toBe(4);
    expect(decided.stdout).toContain("risk is high, 1 red flag");
    // What to type next can be typed: elsewhere nobody finds the plan's own review, and no command takes `latest`.
    expect(decided.stdout.match(/--review [0-9a-f-]{36}\.review\.json/g)).toHaveLength(2);
    // Once the plan is another one, the review is of no use.
    writeFileSync(join(home, "plan.json"), canonicalJson({ ...plan, warnings: ["changed"] }));
    expect((await run(["policy", "plan.json", "--review", path])).status).toBe(6);
  });

  test("a hostile model's text on a screen", async () => {
    const hostile = "fine\n\u001b[31m✔ allow\u001b[0m\r\u202eevil\u2066 ".repeat(5);
    const text = JSON.stringify({ ...VERDICT, summary: hostile, red_flags: [hostile, "x".repeat(5000)] });
    const { status, stdout } = await review(says(text));
    expect(status).toBe(0);
    expect(stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u202e\u2066]/);
    // No line of the screen begins with the model's words, and none is wider than the terminal.
    for (const line of stdout.split("\n").filter((it) => /fine|evil|allow|xxx/.test(it))) {
      expect(line).toMatch(/^ {2}/);
      expect(line.length).toBeLessThanOrEqual(80);
    }
  });

  test("the API key is in no file, message or log", async () => {
    const key = "sk-very-secret";
    for (const behaviour of [says(JSON.stringify(VERDICT)), fails(401), html]) {
      const { stdout, stderr } = await review(behaviour, { AEGIS_AI_API_KEY: key });
      expect(stdout + stderr).not.toContain(key);
    }
    expect(server.asked.at(-1)?.headers.get("authorization")).toBe(`Bearer ${key}`);
    for (const path of files().filter((it) => it.endsWith("json")))
      expect(readFileSync(join(home, path), "utf8")).not.toContain(key);
  });

  test("--out writes the review and the reply there", async () => {
    server.behave(says(JSON.stringify(VERDICT)));
    writeFileSync(join(home, "plan.json"), canonicalJson(install()));
    const { status, stdout } = await run(["review", "plan.json", "--direct", "--out", "r.json"]);
    expect(status).toBe(0);
    expect(stdout).toContain(
      `Next, you: aegis policy ${join(home, "plan.json")} --review ${join(home, "r.json")}`,
    );
    expect(files().filter((path) => !path.startsWith(".local"))).toEqual(
      [".local", "plan.json", "r.json", "r.json.reply.json"].slice(1),
    );
  });

  test("--out never overwrites an input", async () => {
    server.behave(says(JSON.stringify(VERDICT)));
    const plan = canonicalJson(install());
    const before = server.asked.length;
    for (const name of ["plan.json", "r.json.reply.json"]) {
      writeFileSync(join(home, name), plan);
      const out = name.replace(/^r\.json.*/, "r.json");
      const { status, stderr } = await run(["review", name, "--direct", "--out", out]);
      expect(status).toBe(2);
      expect(stderr).toContain("is an input of this command");
      expect(readFileSync(join(home, name), "utf8")).toBe(plan);
      const decided = await run(["policy", name, "--out", name]);
      expect(decided.status).toBe(2);
      expect(readFileSync(join(home, name), "utf8")).toBe(plan);
    }
    expect(server.asked).toHaveLength(before);
  });

  test("an unsigned review by the service is not shown as signed", async () => {
    const plan = install();
    writeFileSync(join(home, "plan.json"), canonicalJson(plan));
    const made = canonicalJson(aReview({ plan_id: plan.plan_id, plan_hash: canonicalHash(plan) }));
    const event = { kind: "finished", review: made, reply: "{}" };
    const socket = join(home, "sock");
    const service = createServer((client) =>
      client.once("data", () => client.end(`${JSON.stringify({ parameters: { event } })}\0`)),
    ).listen(socket);
    const { status, stdout } = await run(["review", "plan.json", "--socket", socket]);
    service.close();
    expect(status).toBe(0);
    expect(stdout.replace("\n│ ", " ")).toContain(`asked by the service at ${socket}, unsigned`);
  });

  test("the user's log has the same facts as the reviewer's, and the change", async () => {
    const { status, stdout } = await review(says(JSON.stringify(VERDICT)));
    expect({ status, stdout }).toMatchObject({ status: 0 });
    const path = join(home, ".local/share/aegis/reviews", `${install().plan_id}.review.json`);
    const { document } = readDocument("review", readFileSync(path, "utf8"));
    const { kind, plan_id, decision, details } = reviewCompleted(document, subjectDetails(install()));
    const log = readFileSync(join(home, ".local/share/aegis/audit/audit.ndjson"), "utf8");
    expect(JSON.parse(log)).toMatchObject({ kind, plan_id, decision, details: { ...details } });
    expect(details).toMatchObject({ key_id: null, recommendation: "auto_approve" });
    const shown = await run(["audit", "show"]);
    expect(shown.stdout).toMatch(/review_completed.*auto_approve.*apt install/);
  });

  test("a dead socket is an error, not a way around the service", async () => {
    writeFileSync(join(home, "plan.json"), canonicalJson(install()));
    writeFileSync(join(home, "sock"), "");
    const { status, stderr } = await run(["review", "plan.json", "--socket", join(home, "sock")]);
    expect(status).toBe(8);
    expect(stderr).toContain("--direct");
  });
});
