import { describe, expect, test } from "bun:test";
import { cargoConfig } from "../src/cargo-config.ts";
import { isForTarget } from "../src/cargo-platform.ts";
import { cargoGrammar, splitCargoTarget } from "../src/cargo-target.ts";

describe("targets", () => {
  const parse = (...targets: string[]) => cargoGrammar.parseTargets("install", targets);

  test.each([
    ["", "it is empty"],
    ["-x", "option"],
    ["--git", "option"],
    ["rip grep", "white space"],
    ["ripgrep;id", "metacharacters"],
    ["$(id)", "metacharacters"],
    ["rip\u202egrep", "control"],
    ["rip\ngrep", "control"],
    ["a".repeat(65), "letters, digits"],
    ["a".repeat(300), "longer than"],
    ["7zip", "begins with a letter"],
    ["_a", "begins with a letter"],
    ["a/b", "letters, digits"],
    ["naïve", "letters, digits"],
    ["a.b", "letters, digits"],
    ["ripgrep@", "not an exact version"],
    ["ripgrep@14", "not an exact version"],
    ["ripgrep@14.1", "not an exact version"],
    ["ripgrep@^14.1.1", "not an exact version"],
    ["ripgrep@=14.1.1", "not an exact version"],
    ["ripgrep@v14.1.1", "not an exact version"],
    ["ripgrep@014.1.1", "not an exact version"],
    ["ripgrep@1.0.0-01", "not an exact version"],
    ["ripgrep@1.0.0@2.0.0", "not an exact version"],
    ["ripgrep@latest", "not an exact version"],
    [`ripgrep@1.0.0-${"a".repeat(130)}`, "not an exact version"],
  ])("%j is none: %s", (target, why) => expect(() => parse(target)).toThrow(why));

  test.each([
    ["git+https://example.com/a", "git-source-denied"],
    ["https://github.com/x/y.git", "git-source-denied"],
    ["ssh://git@example.com/a", "git-source-denied"],
    ["git@example.com:a/b", "git-source-denied"],
    ["https://crates.io/crates/ripgrep", "direct-url-denied"],
    ["ftp://example.com/a", "url-denied"],
    ["file:///srv/a", "url-denied"],
    ["./a", "local-path-denied"],
    [".", "local-path-denied"],
    ["..", "local-path-denied"],
    ["/srv/a", "local-path-denied"],
    ["~/a", "local-path-denied"],
    ["a-1.0.0.crate", "local-path-denied"],
  ] as const)("%j is denied as %s", (target, signal) => {
    expect(parse(target).denied).toEqual([{ target, signal }]);
  });

  test("two crates are two plans; one named twice is one", () => {
    expect(() => parse("a@1.0.0", "b@1.0.0")).toThrow("one crate at a time");
    expect(parse("a@1.0.0", "a@1.0.0").targets).toEqual(["a@1.0.0"]);
  });

  test.each([
    ["ripgrep", null],
    ["ripgrep@14.1.1", "14.1.1"],
    ["a_b-C9@0.0.0-rc.1+build.5", "0.0.0-rc.1+build.5"],
  ])("%j: version %p", (target, version) => {
    expect(splitCargoTarget(target).version).toBe(version);
    expect(cargoGrammar.isExact(target)).toBe(version !== null);
  });
});

describe("configuration", () => {
  const PATH = "/home/u/.cargo/config.toml";
  const read = (files: Record<string, string>, env: Record<string, string> = { HOME: "/home/u" }) =>
    cargoConfig(env, (path) => files[path] ?? null);
  const of = (text: string, env: Record<string, string> = {}) =>
    read({ [PATH]: text }, { HOME: "/home/u", ...env });
  const replaced = (text: string) => `[source.crates-io]\nreplace-with = "a"\n${text}`;

  test.each([
    ["no TOML", "= 1", /config.toml: line 1/],
    ["a number for a name", "[source.crates-io]\nreplace-with = 1", /replace-with: 1 is not a text/],
    ["a circle", replaced('[source.a]\nreplace-with = "crates-io"'), "go in a circle"],
    ["a source that isn't there", replaced(""), "[source.a] is no registry"],
    [
      "a name that every object has",
      '[source.crates-io]\nreplace-with = "constructor"',
      "[source.constructor] is no registry",
    ],
    [
      "vendored crates",
      replaced('[source.a]\ndirectory = "vendor"'),
      "vendored and local sources are not used",
    ],
    ["a local registry", replaced('[source.a]\nlocal-registry = "/srv"'), "vendored and local"],
    ["a git repository", replaced('[source.a]\ngit = "https://x.example/a"'), "[source.a] is no registry"],
    [
      "a git index",
      replaced('[source.a]\nregistry = "https://x.example/index"'),
      "[source.a] is no sparse registry",
    ],
    ["an index on disk", replaced('[source.a]\nregistry = "sparse+file:///srv/"'), "no sparse registry"],
    ["certificates that aren't there", '[http]\ncainfo = "/none.pem"', "http.cainfo names"],
    ["certificates by a relative path", '[http]\ncainfo = "ca.pem"', "no absolute path"],
  ])("%s: refused", (_, text, why) => expect(() => of(text)).toThrow(why));

  test.each([
    ["nothing", "", "https://index.crates.io/"],
    [
      "a replacement",
      replaced('[source.a]\nregistry = "sparse+https://a.example/i"'),
      "https://a.example/i/",
    ],
    [
      "a chain",
      replaced('[source.a]\nreplace-with = "b"\n[registries.b]\nindex = "sparse+https://b.example/"'),
      "https://b.example/",
    ],
    [
      "another registry that nothing replaces",
      '[registries.b]\nindex = "sparse+https://b.example/"',
      "https://index.crates.io/",
    ],
    [
      "a query and a fragment",
      replaced('[source.a]\nregistry = "sparse+https://a.example/?token=x#y"'),
      "https://a.example/",
    ],
  ])("%s", (_, text, index) => expect(of(text).index.href).toBe(index));

  test("cargo's own order of files, and CARGO_HOME", () => {
    const source = (host: string) => replaced(`[source.a]\nregistry = "sparse+https://${host}.example/"`);
    const files = {
      [PATH]: source("second"),
      "/home/u/.cargo/config": source("first"),
      "/c/config.toml": source("other"),
    };
    expect(read(files).index.host).toBe("first.example");
    expect(read(files, { HOME: "/home/u", CARGO_HOME: "/c" }).index.host).toBe("other.example");
    expect(read(files, {}).index.host).toBe("index.crates.io");
  });

  test("the host's own registry, which the executor plans from, wins; a token may stand with the same address", () => {
    const mirror = "sparse+https://host.example/";
    const files = {
      [PATH]: replaced(
        `[source.a]\nregistry = "sparse+https://a.example/"\n[registries.m]\nindex = "${mirror}"\ntoken = "m"`,
      ),
    };
    const own = read(files, { HOME: "/home/u", AEGIS_CARGO_INDEX: mirror });
    expect(own).toEqual({
      index: new URL("https://host.example/"),
      request: { headers: { authorization: "m" } },
    });
    expect(read({}, { HOME: "/nonexistent", AEGIS_CARGO_INDEX: mirror }).request).toEqual({});
    expect(() => read({}, { AEGIS_CARGO_INDEX: "https://host.example/" })).toThrow(
      "AEGIS_CARGO_INDEX is no sparse",
    );
  });

  test("variables name an index and a token, and win over the files", () => {
    const text = replaced('[registries.a]\nindex = "sparse+https://a.example/"\ntoken = "file"');
    const env = { CARGO_REGISTRIES_A_INDEX: "sparse+https://env.example/", CARGO_REGISTRIES_A_TOKEN: "env" };
    expect(of(text).request.headers).toEqual({ authorization: "file" });
    expect(of(text, env)).toMatchObject({ request: { headers: { authorization: "env" } } });
    expect(of(text, env).index.host).toBe("env.example");
  });

  test("tokens and passwords become headers, and stand nowhere else", () => {
    const one = of(replaced('[source.a]\nregistry = "sparse+https://me:s%20cret@a.example/"'));
    expect(one.request.headers).toEqual({ authorization: `Basic ${btoa("me:s cret")}` });
    expect(one.index.href).toBe("https://a.example/");
    const other = read({
      [PATH]: replaced('[registries.a]\nindex = "sparse+https://a.example/"'),
      "/home/u/.cargo/credentials.toml":
        '[registries.a]\ntoken = "cret"\n[registries.b]\ntoken = "no"\n[registry]\ntoken = "no"',
    });
    expect(other).toEqual({
      index: new URL("https://a.example/"),
      request: { headers: { authorization: "cret" } },
    });
  });

  test("crates.io gets no token of another registry", () => {
    const credentials = {
      "/home/u/.cargo/credentials.toml": '[registries.a]\ntoken = "no"\n[registry]\ntoken = "no"',
    };
    expect(read(credentials).request).toEqual({});
  });

  test("proxy and certificates", () => {
    const files = {
      [PATH]: '[http]\nproxy = "proxy.example:3128"\ncainfo = "/ca.pem"',
      "/ca.pem": "PEM",
      "/other.pem": "OTHER",
    };
    expect(read(files).request).toEqual({ proxy: "http://proxy.example:3128", certificates: "PEM" });
    const env = { CARGO_HTTP_PROXY: "socks5://p.example:1", CARGO_HTTP_CAINFO: "/other.pem" };
    expect(read(files, { HOME: "/home/u", ...env }).request).toEqual({
      proxy: "socks5://p.example:1",
      certificates: "OTHER",
    });
  });

  test("programs that a file plants are not looked at", () => {
    const planted = `[build]\nrustc-wrapper = "/tmp/x"\nrustc = "/tmp/x"\n[target.x86_64-unknown-linux-gnu]\nlinker = "/tmp/x"\nrunner = "/tmp/x"
[alias]\ninstall = "run"\n[env]\nPATH = "/tmp"\n[credential-alias]\nx = "/tmp/x"\n[registry]\nglobal-credential-providers = ["/tmp/x"]\n`;
    expect(of(planted)).toEqual({ index: new URL("https://index.crates.io/"), request: {} });
    expect(
      of("", {
        RUSTC_WRAPPER: "/tmp/x",
        CARGO_BUILD_RUSTC: "/tmp/x",
        CARGO_SOURCE_CRATES_IO_REPLACE_WITH: "x",
      }),
    ).toEqual(of(""));
  });
});

describe("platforms of dependencies", () => {
  test.each([
    [null, true],
    ["x86_64-unknown-linux-gnu", true],
    ["x86_64-unknown-linux-musl", false],
    ["x86_64-pc-windows-msvc", false],
    ["cfg(unix)", true],
    ["cfg(windows)", false],
    ["cfg(true)", true],
    ["cfg(false)", false],
    ['cfg(target_os = "linux")', true],
    ['cfg( target_os="macos" )', false],
    ['cfg(target_arch = "x86_64")', true],
    ['cfg(target_pointer_width = "32")', false],
    ['cfg(target_endian = "little")', true],
    ['cfg(target_family = "wasm")', false],
    ['cfg(target_vendor = "apple")', false],
    ["cfg(not(windows))", true],
    ["cfg(not(unix))", false],
    ['cfg(any(target_os = "macos", target_os = "linux"))', true],
    ["cfg(any())", false],
    ["cfg(all())", true],
    ['cfg(all(unix, not(target_os = "macos"), not(any(target_os = "ios", target_os = "android"))))', true],
    ['cfg(all(target_arch = "wasm32", target_os = "unknown"))', false],
    // Only flags could set these, and a run has none.
    ["cfg(loom)", false],
    ["cfg(not(tokio_unstable))", true],
    ['cfg(feature = "x")', false],
    // These vary between compilers, so the crate is planned.
    ['cfg(target_feature = "avx2")', true],
    ['cfg(not(target_feature = "avx2"))', true],
    ['cfg(target_has_atomic = "64")', true],
    ['cfg(not(target_has_atomic = "ptr"))', false],
    ['cfg(not(target_has_atomic = "128"))', true],
    ["cfg(debug_assertions)", true],
    ['cfg(all(windows, target_feature = "avx2"))', false],
    // Nonsense is planned too; cargo refuses it.
    ["cfg(", false],
    ["cfg(not())", true],
    ["cfg(not(unix, windows))", true],
    ["cfg(unix windows)", true],
    ["cfg(some(windows))", true],
    ["cfg(constructor = windows)", true],
    [`cfg(${"not(".repeat(900)}unix${")".repeat(900)})`, true],
    [`cfg(${"not(".repeat(100_000)}`, true],
  ])("%s on amd64: %p", (target, expected) => expect(isForTarget(target, "amd64")).toBe(expected));

  test("other machines, and one that Rust's names aren't known of", () => {
    expect(isForTarget('cfg(target_endian = "big")', "s390x")).toBe(true);
    expect(isForTarget('cfg(target_arch = "aarch64")', "arm64")).toBe(true);
    expect(isForTarget("x86_64-unknown-linux-gnu", "arm64")).toBe(false);
    expect(isForTarget("cfg(windows)", "m68k")).toBe(true);
  });
});
