import { describe, expect, test } from "bun:test";
import { pipConfig } from "../src/pip-config.ts";

const config = (env: Record<string, string>, files: Record<string, string> = {}) =>
  pipConfig({ HOME: "/home/u", ...env }, (path) => files[path] ?? null);
const indexOf = (env: Record<string, string>, files: Record<string, string> = {}) =>
  config(env, files).index.href;

describe("refused", () => {
  test.each([
    ["PIP_INDEX_URL", "file:///srv/simple", "index-url can't be used"],
    ["PIP_INDEX_URL", "nonsense", "index-url can't be used"],
    ["PIP_PROXY", "socks5://x", "proxy can't be used"],
    ["PIP_CERT", "/none.pem", "cert can't be used"],
  ])("%s=%s", (key, value, why) => {
    expect(() => config({ [key]: value })).toThrow(why);
  });
  test.each([
    ["PIP_EXTRA_INDEX_URL", "https://other.example/simple", /other\.example.*dependency confusion/],
    ["PIP_NO_INDEX", "true", /no-index is set/],
    ["PIP_INDEX_URL", "http://index.example/simple", /without encryption/],
  ])("%s=%s: nothing is planned", (key, value, why) => {
    expect(config({ [key]: value }).refused).toMatch(why);
  });
  test.each([
    ["PIP_INDEX_URL", "http://127.0.0.1:8000/simple"],
    ["PIP_NO_INDEX", "0"],
    ["PIP_EXTRA_INDEX_URL", ""],
  ])("%s=%s is nothing to refuse", (key, value) => expect(config({ [key]: value }).refused).toBeNull());
});

test.each(["find-links", "trusted-host", "client-cert", "constraint"])(
  "%s is set and not used, and that is told",
  (key) => {
    const { notes } = config({ [`PIP_${key.toUpperCase().replace("-", "_")}`]: "/x" });
    expect(notes).toEqual([expect.stringContaining(`pip's settings: ${key} is set and not used`)]);
  },
);

describe("which setting wins", () => {
  const ini = (url: string, section = "global") =>
    `[${section}]\nindex-url = https://${url}.example/simple\n`;
  const files = {
    "/etc/xdg/pip/pip.conf": ini("xdg"),
    "/etc/pip.conf": ini("etc"),
    "/home/u/.pip/pip.conf": ini("legacy"),
    "/home/u/.config/pip/pip.conf": ini("user"),
    "/usr/pip.conf": ini("site"),
    "/named": ini("named"),
  };
  const only = (...paths: (keyof typeof files)[]) =>
    Object.fromEntries(paths.map((path) => [path, files[path]]));
  test.each([
    ["nothing", {}, {}, "https://pypi.org/simple/"],
    ["XDG's file", {}, only("/etc/xdg/pip/pip.conf"), "https://xdg.example/simple/"],
    [
      "/etc/pip.conf over XDG's",
      {},
      only("/etc/xdg/pip/pip.conf", "/etc/pip.conf"),
      "https://etc.example/simple/",
    ],
    [
      "the user's over the host's",
      {},
      only("/etc/pip.conf", "/home/u/.pip/pip.conf"),
      "https://legacy.example/simple/",
    ],
    [
      "the newer place over the older",
      {},
      only("/home/u/.pip/pip.conf", "/home/u/.config/pip/pip.conf"),
      "https://user.example/simple/",
    ],
    ["the site's over the user's", {}, files, "https://site.example/simple/"],
    ["PIP_CONFIG_FILE over all", { PIP_CONFIG_FILE: "/named" }, files, "https://named.example/simple/"],
    [
      "PIP_CONFIG_FILE=/dev/null: no file",
      { PIP_CONFIG_FILE: "/dev/null" },
      files,
      "https://pypi.org/simple/",
    ],
    ["a variable over files", { PIP_INDEX_URL: "https://env.example/s" }, files, "https://env.example/s/"],
    [
      "an empty variable is none",
      { PIP_INDEX_URL: "" },
      only("/etc/pip.conf"),
      "https://etc.example/simple/",
    ],
    [
      "[install] over [global], whatever the file",
      {},
      { "/etc/pip.conf": ini("install", "install"), "/usr/pip.conf": ini("site") },
      "https://install.example/simple/",
    ],
    [
      "another section is not for us",
      {},
      { "/etc/pip.conf": ini("list", "list") },
      "https://pypi.org/simple/",
    ],
    [
      "without a HOME only the host's files",
      { HOME: "" },
      only("/etc/pip.conf"),
      "https://etc.example/simple/",
    ],
  ] as const)("%s", (_, env, found, expected) => expect(indexOf(env, found)).toBe(expected));
});

test("an INI file as Python reads it", () => {
  const text =
    "# c\n[global]\n; c\nIndex_URL: https://a.example/simple\nextra-index-url =\n    https://b.example\n    https://c.example\n";
  const { index, refused } = config({}, { "/etc/pip.conf": text });
  expect(index.href).toBe("https://a.example/simple/");
  expect(refused).toContain("(b.example, c.example)");
});

test("credentials become a header for the index alone", () => {
  const { index, request, otherRequest } = config({
    PIP_INDEX_URL: "https://me:s%20cret@a.example/simple",
    PIP_PROXY: "proxy.example:3128",
  });
  expect(request).toEqual({
    headers: { authorization: `Basic ${btoa("me:s cret")}` },
    proxy: "http://proxy.example:3128",
  });
  expect(otherRequest).toEqual({ proxy: "http://proxy.example:3128" });
  expect(index.href).toBe("https://a.example/simple/");
});
test("certificates", () => {
  expect(config({ PIP_CERT: "/ca.pem" }, { "/ca.pem": "PEM" }).otherRequest).toEqual({ certificates: "PEM" });
});
