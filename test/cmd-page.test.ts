import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import type { AuditEvent } from "../src/audit-event.ts";
import { openAuditLog } from "../src/audit-log.ts";
import { readEvents } from "../src/audit-read.ts";
import { verifyAuditLog } from "../src/audit-verify.ts";
import { reportOf } from "../src/cmd-audit-figures.ts";
import { html, pageText, rowsTable, section, terms } from "../src/cmd-page.ts";
import { logPageText } from "../src/cmd-page-log.ts";
import { planPageText } from "../src/cmd-page-plan.ts";
import type { OperationPlan } from "../src/doc-plan.ts";
import { findChromium, startChromium } from "./chromium.ts";
import { buildWhereNeeded, PROGRAMS, start } from "./kit.ts";
import { needs } from "./needs.ts";
import { DEBIAN, entry, removal, upgrade, vulnerability } from "./policy-plans.ts";

/*
 * Pages hold text of packages, registries and requesters, and are opened in an administrator's browser: no text may become markup, and
 * nothing may run or be loaded.
 */

const HASH = "0".repeat(64);
let dir = "";
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "aegis-page-"));
});
afterAll(() => rmSync(dir, { recursive: true }));

/** Elements and attributes' names of a page, in order, as a parser of HTML sees them; the style's text left out. */
async function shapeOf(page: string): Promise<string[]> {
  const found: string[] = [];
  await new HTMLRewriter()
    .on("*", {
      element(element) {
        found.push([element.tagName, ...[...element.attributes].map(([name]) => name)].join(" "));
      },
    })
    .transform(new Response(page))
    .text();
  return found;
}

describe("text stays text", () => {
  test.each([
    ["<script>alert(1)</script>", "&#60;script&#62;alert(1)&#60;/script&#62;"],
    ['" onmouseover="x', "&#34; onmouseover=&#34;x"],
    ["' x='", "&#39; x=&#39;"],
    ["&lt;b&gt;", "&#38;lt;b&#38;gt;"],
    ["a\u202eb", "a\\u{202e}b"],
    ["a\u0000b\nc", "a\\x00b\\nc"],
    ["<!--", "&#60;!--"],
    ["]]>", "]]&#62;"],
  ])("%p", (text, escaped) =>
    expect(html`<p title="${text}">${text}</p>`.text).toBe(`<p title="${escaped}">${escaped}</p>`),
  );

  test("in every helper", async () => {
    const hostile = `"><img src=x onerror=alert(1)>`;
    const page = (text: string) =>
      pageText(
        text,
        html`${[rowsTable([text, { number: text }], [[text, text]]), terms([[text, text]]), section(text, html`<p>${text}</p>`)]}`,
      );
    expect(await shapeOf(page(hostile))).toEqual(await shapeOf(page("harmless")));
  });

  test("whatever a plan says, its page has the same elements", async () => {
    const page = (text: string) => planPageText(planSaying(text), { hash: HASH });
    const expected = await shapeOf(page("harmless"));
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.string({ unit: "binary", minLength: 1, maxLength: 60 }),
          fc.constantFrom(
            "</style><script>",
            "</title>",
            "<svg onload=x>",
            "'\"><",
            "<![CDATA[",
            "{{x}}",
            "<base href=//x>",
          ),
        ),
        async (text) => expect(await shapeOf(page(text))).toEqual(expected),
      ),
      { numRuns: 150 },
    );
  });
});

/** A plan with this text wherever somebody else's text may be. */
function planSaying(text: string): OperationPlan {
  return upgrade({
    targets: [text],
    warnings: [text],
    transaction: [
      removal(text, { from_version: text }),
      entry("openssl", {
        from_version: text,
        to_version: `${text}.1`,
        origin: text,
        archive: text,
        takes_over: [text],
      }),
    ],
    repository_evidence: [
      { ...DEBIAN, release_origin: text, problems: [text], trust: "weak", key_fingerprints: [text] },
    ],
    vulnerability_evidence: [
      vulnerability({ package: "openssl", version: `${text}.1`, id: `X-${text}`, fixed_version: text }),
    ],
    outlook: {
      services: {
        units: [{ unit: text, packages: [text], risky: text }],
        seen_at: "2026-11-30T20:00:00Z",
        unseen: 1,
      },
      reboot: { reasons: [text] },
      configuration_files: [{ package: text, path: text, state: "modified" }],
      space: [{ path: text, needed: 2, available: 1 }],
      unneeded: [text],
      held_back: [{ package: text, why: text }],
    },
    packages_held_back: [text],
    rollback_plan: { inverse: [], unobtainable: [text], notes: [text] },
  });
}

/** A log of two months with every kind of outcome. */
function madeLog(): string {
  const path = join(dir, "log");
  let at = Date.parse("2026-10-01T08:00:00Z");
  const log = openAuditLog(path, { host: "web1", now: () => new Date(at) });
  for (let n = 0; n < 60; n++) {
    at += 26 * 3_600_000;
    const details = {
      operation: n % 3 === 0 ? "apt upgrade" : "apt install nginx",
      packages: { upgrade: [`nginx 1.22.${n}`, `libssl3 3.0.${n}`] },
      packages_count: 2,
      approved_by: [{ name: n % 2 === 0 ? "alice@example" : "bob@example", key_id: "6ff5f778e490437c" }],
    };
    if (n % 11 === 3)
      log.append({ kind: "execution_denied", details: { ...details, code: "drift", count: 2 } });
    else if (n % 13 === 5) log.append({ kind: "execution_interrupted", execution_id: null, details });
    else {
      const state = n % 7 === 2 ? "failed" : "completed";
      log.append({
        kind: "execution_completed",
        exit_status: state === "failed" ? 100 : 0,
        details: { ...details, state },
      });
    }
    if (n % 20 === 9)
      log.append({ kind: "unmanaged_change", details: { message: "apt-get install -y <b>curl</b>" } });
  }
  return path;
}

const reported = (path: string, from = "2026-10-02T00:00:00Z") =>
  reportOf(readEvents(path), {
    ...{ path, from, until: "2026-12-06T00:00:00Z", cut: false },
    verification: verifyAuditLog(path),
  });

describe("the report of a log", () => {
  let path = "";
  beforeAll(() => {
    path = madeLog();
  });

  test("an event that stands for many refusals counts as often as it says, and costs no more than one", () => {
    const denied = {
      kind: "execution_denied",
      timestamp: "2026-10-02T00:00:00Z",
      details: { code: "x", count: 2 ** 50 },
    };
    const event = { ...readEvents(path)[0], ...denied } as AuditEvent;
    const about = { path, from: event.timestamp, until: event.timestamp, cut: false };
    const { refusals } = reportOf([event, event], { ...about, verification: verifyAuditLog(path) });
    expect(refusals).toEqual({ x: 2 ** 51 });
  });

  test("counts outcomes, days, approvals and packages", () => {
    const report = reported(path);
    expect(report.outcomes).toEqual({ completed: 42, failed: 7, interrupted: 5, denied: 12 });
    expect(report.days).toHaveLength(66);
    expect(report.days.reduce((sum, { outcomes }) => sum + outcomes.completed, 0)).toBe(42);
    expect(report.refusals).toEqual({ drift: 12 });
    expect(report.approvers.map(({ name }) => name.split(" ")[0])).toEqual(["alice@example", "bob@example"]);
    expect(report.packages.map(({ name, changes }) => [name, changes])).toEqual([
      ["libssl3", 42],
      ["nginx", 42],
    ]);
    expect(report.notable).toHaveLength(3);
    expect(report.executions[0]?.at.localeCompare(report.executions.at(-1)?.at ?? "")).toBe(1);
  });

  test("text of an event is text on its page, and a changed log is said first", async () => {
    const page = logPageText(reported(path));
    expect(page).toContain("apt-get install -y &#60;b&#62;curl&#60;/b&#62;");
    expect(page).toContain("The chain is intact");
    const file = join(path, "audit.ndjson");
    const good = readFileSync(file, "utf8");
    writeFileSync(file, good.replace(/^.*1\.22\.7.*\n/m, ""));
    const page2 = logPageText({
      ...reported(path, "2026-11-01T00:00:00Z"),
      verification: verifyAuditLog(path),
    });
    writeFileSync(file, good);
    expect(page2).toContain("The log is changed.");
  });
});

buildWhereNeeded();
for (const [name, program] of Object.entries(PROGRAMS)) {
  describe(name, () => {
    const run = (...words: string[]) =>
      start([...program, ...words], {
        env: { PATH: "/usr/bin:/bin", HOME: dir, LC_ALL: "C.UTF-8", AEGIS_AUDIT_LOG_DIR: join(dir, "log") },
        cwd: dir,
      });

    test("audit report: a summary, JSON, and a page that is this user's alone", async () => {
      madeLogOnce();
      const { status, stdout } = await run(
        "audit",
        "report",
        "--days",
        "3660",
        "--html",
        join(dir, "log.html"),
      );
      expect([status, stdout]).toEqual([
        0,
        expect.stringContaining("42 completed, 7 failed, 5 interrupted, 12 denied"),
      ]);
      expect(statSync(join(dir, "log.html")).mode & 0o777).toBe(0o600);
      const json = await run("audit", "report", "--days", "3660", "--json");
      expect(JSON.parse(json.stdout)).toMatchObject({
        outcomes: { completed: 42 },
        verification: { ok: true },
      });
    });

    test.each([
      [["audit", "report", "--days", "0"], 2, "--days 0 is not a number from 1 to 3660"],
      [["audit", "report", "--html", "/"], 2, "it is a directory"],
      [["audit", "report", "--html", "/dev/null"], 2, "a device, pipe or socket"],
      [["audit", "report", "--path", "/nonexistent"], 2, "there is no audit log"],
      [
        ["plan", "apt", "update", "--out", "x.json", "--html", "x.json"],
        2,
        "--out and --html name the same file",
      ],
      [["plan", "apt", "update", "--html", "./y", "--sbom", "y"], 2, "--sbom and --html name the same file"],
    ])("%p", async (words, status, message) => {
      const ended = await run(...words);
      expect([ended.status, ended.stderr]).toEqual([status, expect.stringContaining(message)]);
    });
  });
}

function madeLogOnce(): void {
  if (statSync(join(dir, "log"), { throwIfNoEntry: false }) === undefined) madeLog();
}

const chromium = findChromium();
needs(chromium !== null, "Chromium (Debian's package chromium)").describe("in Chromium", () => {
  let browser: Awaited<ReturnType<typeof startChromium>>;
  beforeAll(async () => {
    if (chromium === null) throw new Error("no browser");
    browser = await startChromium(chromium);
    madeLogOnce();
    const hostile = `<script>document.title="run"</script><img src="https://example.com/x" onerror="alert(1)">`;
    const many = Array.from({ length: 100 }, (_, n) =>
      entry(`package-with-a-long-name-${n}`, { to_version: `1:2.${n}~deb12u1` }),
    );
    const plan = planSaying(hostile);
    writeFileSync(
      join(dir, "plan.html"),
      planPageText(
        { ...plan, transaction: [...plan.transaction, ...many] },
        {
          hash: HASH,
          policy: {
            result: { decision: "deny", rules: ["apt-removal"], reasons: [hostile] },
            isDecided: true,
          },
        },
      ),
    );
    writeFileSync(join(dir, "page.html"), logPageText(reported(join(dir, "log"))));
  });
  afterAll(() => browser.close());

  const LOOK = `JSON.stringify({
    title: document.title,
    wide: document.documentElement.scrollWidth > document.documentElement.clientWidth,
    unstyled: getComputedStyle(document.querySelector("main")).maxWidth === "none",
    background: getComputedStyle(document.body).backgroundColor,
    scripts: document.scripts.length, images: document.images.length,
    overlapping: [...document.querySelectorAll("td,dd")].filter((one) => one.scrollWidth > one.clientWidth + 1).length,
  })`;
  for (const page of ["plan.html", "page.html"] as const) {
    for (const width of [400, 1200]) {
      for (const dark of [false, true]) {
        test(`${page}, ${width} pixels, ${dark ? "dark" : "light"}: styled, nothing runs, nothing is loaded, nothing sticks out`, async () => {
          const seen = await browser.open(`file://${join(dir, page)}`, width, dark, LOOK);
          const found = JSON.parse(String(seen.value)) as Record<string, unknown>;
          expect(found).toMatchObject({
            wide: false,
            unstyled: false,
            scripts: 0,
            images: 0,
            overlapping: 0,
          });
          expect(found["title"]).not.toBe("run");
          expect(found["background"]).toBe(dark ? "rgb(20, 23, 27)" : "rgb(255, 255, 255)");
          expect(seen.requested).toEqual([`file://${join(dir, page)}`]);
          expect(seen.messages).toEqual([]);
          expect(seen.screenshot.subarray(1, 4).toString()).toBe("PNG");
          expect(seen.screenshot.length).toBeGreaterThan(20_000);
          const keep = process.env["AEGIS_SCREENSHOTS"];
          if (keep !== undefined)
            writeFileSync(join(keep, `${page}-${width}${dark ? "-dark" : ""}.png`), seen.screenshot);
        });
      }
    }
  }
});
