import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { parseShow } from "../src/apt-show.ts";
import { fixture } from "./apt-kit.ts";

describe("apt-cache show", () => {
  test("hash, size, source of each package", () => {
    const shown = parseShow(fixture("bookworm/install-nginx.show.txt"));
    expect(shown.map(({ name, architecture, source, size }) => [name, architecture, source, size])).toEqual([
      ["nginx-common", "all", "nginx", 115544],
      ["nginx", "amd64", "nginx", 532468],
    ]);
    expect(shown[1]).toMatchObject({
      version: "1.22.1-9+deb12u11",
      sha256: "4e2778e675c07d0f2d8d3b6f5ff84f6483ade1d82c21c910eb9a2787e1cf1b1a",
      essential: false,
      maintainer: "Debian Nginx Maintainers <pkg-nginx-maintainers@alioth-lists.debian.net>",
      provides: ["httpd", "httpd-cgi", "nginx-abi-1.22.1-7"],
    });
  });
  test("the installed version has no hash; essential, and a source with a version of its own", () => {
    expect(parseShow(fixture("bookworm/show-bash.txt"))).toMatchObject([
      { version: "5.2.15-2+b8", sha256: null, size: null, essential: true, source: "bash" },
      { version: "5.2.15-2+b13", essential: true, source: "bash", size: 1490652 },
    ]);
  });
  test("one version of two architectures", () => {
    const shown = parseShow(fixture("trixie/lab-multiarch.show.txt"));
    const [amd64, i386] = ["amd64", "i386"].map((a) =>
      shown.find((s) => s.name === "forp" && s.architecture === a),
    );
    expect(amd64?.sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(i386?.sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(amd64?.sha256).not.toBe(i386?.sha256);
  });
  test("nonsense where a hash or a size should be is no hash and no size", () => {
    const text = "Package: x1\nVersion: 1\nArchitecture: all\nSHA256: ABC\nSize: 1e9\n\nPackage: half\n";
    expect(parseShow(text)).toMatchObject([{ name: "x1", sha256: null, size: null, source: "x1" }]);
  });
  test("never throws", () => {
    fc.assert(fc.property(fc.string(), (text) => void parseShow(text)));
  });
});
