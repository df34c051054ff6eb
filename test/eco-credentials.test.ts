import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, chownSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { credentialsProblem, registryCredentials } from "../src/eco-credentials.ts";
import { registryAccess } from "../src/plan-registry.ts";
import { needs } from "./needs.ts";
import { refuses } from "./signing-kit.ts";

// Not below /tmp, where everybody may write.
let directory = "";
let made = 0;
function fileOf(text: string, { mode = 0o600, uid = 0 } = {}): string {
  const path = join(directory, `registries-${made++}.toml`);
  writeFileSync(path, text, { mode });
  chmodSync(path, mode);
  chownSync(path, uid, 0);
  return path;
}
const SECRET = "very-secret";
const entry = (host: string, rest = `authorization = "Bearer ${SECRET}"`) =>
  `[[registry]]\nhost = "${host}"\n${rest}\n`;
const URL_OF = new URL("https://npm.example.com/x");

needs(process.getuid?.() === 0, "root (eco-credentials.test.ts)").describe(
  "credentials of registries",
  () => {
    beforeAll(() => {
      directory = mkdtempSync("/root/aegis-credentials-");
    });
    afterAll(() => rmSync(directory, { recursive: true }));

    const WRONG: [string, { mode?: number; uid?: number }][] = [
      ["readable by everybody", { mode: 0o644 }],
      ["readable by its group", { mode: 0o640 }],
      ["another user's", { uid: 1000 }],
    ];
    test.each(WRONG)("a file that is %s is refused, with what to type", async (_, wrong) => {
      const path = fileOf(entry("npm.example.com"), wrong);
      const fix = `Type: sudo chown root:root ${path} && sudo chmod 600 ${path}`;
      expect(credentialsProblem(path)).toMatchObject({ fix });
      const read = () => registryCredentials(path)(URL_OF);
      expect(await refuses(read, "invalid_config", "root alone can read")).toBe(fix);
    });

    test("a link is refused", async () => {
      const path = join(directory, "link.toml");
      symlinkSync(fileOf(entry("npm.example.com")), path);
      await refuses(() => registryCredentials(path)(URL_OF), "invalid_config", "root alone can read");
    });

    const MALFORMED: [string, string, string][] = [
      ["no TOML", "registry = [", "line 1"],
      [
        "an unknown key",
        entry("a.example", `token = "${SECRET}"`),
        "unknown key; known keys: host, authorization",
      ],
      ["no host", `[[registry]]\nauthorization = "${SECRET}"\n`, "missing"],
      ["an address", entry("https://a.example/"), "not a host or host:port"],
      ["a path", entry("a.example/x"), "not a host or host:port"],
      ["a user", entry("u@a.example"), "not a host or host:port"],
      ["no credentials", entry("a.example", ""), "give authorization, or user and password"],
      ["a user alone", entry("a.example", 'user = "u"'), "give authorization, or user and password"],
      ["both kinds", `${entry("a.example")}user = "u"\npassword = "p"\n`, "and not both"],
      ["a number as password", entry("a.example", 'user = "u"\npassword = 123456'), "not a text in quotes"],
      [
        "a line end in a header",
        entry("a.example", `authorization = "${SECRET}\\nX: y"`),
        "not the value of a header",
      ],
      ["one host twice", entry("a.example") + entry("A.example:443"), "two entries"],
    ];
    test.each(MALFORMED)("%s: refused, and no value is shown", async (_, text, why) => {
      const path = fileOf(text);
      let shown = "";
      const read = () => {
        try {
          registryCredentials(path)(URL_OF);
        } catch (error) {
          shown = String(error);
          throw error;
        }
      };
      shown += await refuses(read, "invalid_config", why);
      expect(shown).not.toContain(SECRET);
      expect(shown).not.toContain("123456");
    });

    const file = () =>
      registryCredentials(
        fileOf(
          entry("npm.example.com") +
            entry("Crates.example:8443", 'authorization = "raw-token"') +
            entry("127.0.0.1:4873", 'user = "ops"\npassword = "a:b"'),
        ),
      );
    const GIVEN: [string, string | undefined][] = [
      ["https://npm.example.com/", `Bearer ${SECRET}`],
      ["https://NPM.example.com:443/a/b", `Bearer ${SECRET}`],
      ["https://crates.example:8443/", "raw-token"],
      ["http://127.0.0.1:4873/x", `Basic ${Buffer.from("ops:a:b").toString("base64")}`],
      ["http://npm.example.com/", undefined],
      ["https://npm.example.com:444/", undefined],
      ["https://x.npm.example.com/", undefined],
      ["https://npm.example.com.evil/", undefined],
      ["https://evil/npm.example.com", undefined],
      ["https://crates.example/", undefined],
      ["http://127.0.0.1:4874/", undefined],
    ];
    test.each(GIVEN)("%s", (url, authorization) => {
      const { authorization: given } = file()(new URL(url));
      expect(given).toBe(authorization);
    });

    test("planning sends them with metadata and package files, in place of the tools' own", async () => {
      const seen: (string | null)[] = [];
      const server = Bun.serve({
        port: 0,
        hostname: "127.0.0.1",
        fetch(request) {
          seen.push(request.headers.get("authorization"));
          return new Response("x");
        },
      });
      const credentials = registryCredentials(fileOf(entry(`127.0.0.1:${server.port}`)));
      const { get, packageFile } = registryAccess(join(directory, "cache"), credentials);
      await get(server.url, { headers: { authorization: "theirs" } });
      await packageFile(server.url, null);
      await server.stop(true);
      expect(seen).toEqual([`Bearer ${SECRET}`, `Bearer ${SECRET}`]);
    });
  },
);

test("without the file there are none", () => {
  const path = "/nonexistent/registries.toml";
  expect(credentialsProblem(path)).toBeNull();
  expect(registryCredentials(path)(URL_OF)).toEqual({});
});
