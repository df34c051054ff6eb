import { describe, expect, test } from "bun:test";
import { npmConfig, npmRequests, npmSettings, registryOf } from "../src/npm-config.ts";

/** The npmrc passed to npm. */
const npmrcOf = (config: ReadonlyMap<string, string>) =>
  npmSettings(config)("/nonexistent").files?.[".npmrc"] ?? "";

describe("registry settings", () => {
  const read = (files: Record<string, string>) => (path: string) => files[path] ?? null;
  test("global, then the user's, then the environment", () => {
    const files = read({
      "/etc/npmrc": "registry=https://global.example.com\ncafile=/etc/ca.pem\n",
      "/home/u/.npmrc": `; a comment\n registry = https://user.example.com \n@a:registry=\${A_REGISTRY}\n@b:registry=\${UNSET}\n`,
    });
    const env = { HOME: "/home/u", A_REGISTRY: "https://a.example.com", HTTPS_PROXY: "http://proxy:3128" };
    const config = npmConfig(env, files);
    expect(Object.fromEntries(config)).toEqual({
      registry: "https://user.example.com/",
      cafile: "/etc/ca.pem",
      "@a:registry": "https://a.example.com/",
      "https-proxy": "http://proxy:3128",
    });
    expect(registryOf(config, "@a/x")).toBe("https://a.example.com/");
    expect(registryOf(config, "@b/x")).toBe("https://user.example.com/");
    const override = npmConfig({ ...env, NPM_CONFIG_REGISTRY: "https://env.example.com" }, files);
    expect(registryOf(override, "x")).toBe("https://env.example.com/");
  });
  const DROPPED = [
    "//registry.example.com/:_authToken=secret",
    "_auth=secret",
    "script-shell=/tmp/evil",
    "node-options=--require /tmp/evil.js",
    "git=/tmp/evil",
    "prefix=/tmp/evil",
    "globalconfig=/tmp/evil",
    "ignore-scripts=false",
    "registry=file:///evil",
    "registry=not a url evil",
  ];
  for (const line of DROPPED) {
    test(`left out: ${line}`, () => {
      const text = npmrcOf(npmConfig({ HOME: "/h" }, read({ "/h/.npmrc": `${line}\n` })));
      expect(text).not.toMatch(/secret|evil|scripts=false/);
    });
  }
  test("credentials in a URL are removed", () => {
    expect(
      npmrcOf(npmConfig({ NPM_CONFIG_REGISTRY: "https://u:secret@r.example.com/" }, read({}))),
    ).toContain("registry=https://r.example.com/\n");
  });
});

describe("requests", () => {
  const requests = (npmrc: string, env: Record<string, string> = {}) => {
    const read = (path: string) => ({ "/h/.npmrc": npmrc, "/ca.pem": "PEM" })[path] ?? null;
    const all = { HOME: "/h", ...env };
    return npmRequests(all, read, npmConfig(all, read));
  };
  const auth = (npmrc: string, url: string) => requests(npmrc)(new URL(url)).headers?.["authorization"];
  const basic = (text: string) => `Basic ${Buffer.from(text).toString("base64")}`;
  const TOKEN = "//r.example/:_authToken=t";
  const LOGIN = "//r.example/:username=u\n//r.example/:_password=cA==";
  const CASES: [string, string, string, string | null][] = [
    ["another host", TOKEN, "https://evil.example/x", null],
    ["a host that ends alike", TOKEN, "https://evil-r.example/x", null],
    ["another port", TOKEN, "https://r.example:8443/x", null],
    ["another path", "//r.example/a/:_authToken=t", "https://r.example/b/x", null],
    ["plain HTTP", TOKEN, "http://r.example/x", null],
    ["not bound to an address", "_authToken=t", "https://r.example/x", null],
    ["a variable that isn't set", "//r.example/:_authToken=${NONE}", "https://r.example/x", null],
    ["a name without password", "//r.example/:username=u", "https://r.example/x", null],
    ["a line break", "//r.example/:_authToken=a\u0085b", "https://r.example/x", null],
    ["a token", TOKEN, "https://r.example/x/y", "Bearer t"],
    ["without the last slash", "//r.example/a:_authToken=t", "https://r.example/a/x", "Bearer t"],
    ["the longest address", `${TOKEN}\n//r.example/a/:_authToken=u`, "https://r.example/a/x", "Bearer u"],
    ["this machine over HTTP", "//127.0.0.1:4873/:_authToken=t", "http://127.0.0.1:4873/x", "Bearer t"],
    ["_auth", "//r.example/:_auth=dTpw", "https://r.example/x", "Basic dTpw"],
    ["name and password", LOGIN, "https://r.example/x", basic("u:p")],
  ];
  test.each(CASES)("credentials: %s", (_, npmrc, url, expected) => {
    expect(auth(npmrc, url) ?? null).toBe(expected);
  });

  test("certificates and proxies", () => {
    const request = requests(
      "cafile=/ca.pem\nproxy=http://p:1\nhttps-proxy=http://p:2\nnoproxy=local.example,.inner\n",
    );
    expect(request(new URL("https://r.example/"))).toEqual({ proxy: "http://p:2", certificates: "PEM" });
    expect(request(new URL("http://r.example/")).proxy).toBe("http://p:1");
    for (const host of ["local.example", "a.local.example", "x.inner"])
      expect(request(new URL(`https://${host}/`)).proxy).toBeUndefined();
  });
});
