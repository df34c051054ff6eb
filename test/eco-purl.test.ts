import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { PackageURL } from "packageurl-js";
import { type PurlParts, purlOf } from "../src/eco-purl.ts";

interface Vector extends PurlParts {
  description: string;
  canonical_purl: string | null;
  is_invalid: boolean;
}

/** See the README beside it. */
const VECTORS: Vector[] = JSON.parse(
  readFileSync(join(import.meta.dir, "fixtures/purl/test-suite-data.json"), "utf8"),
);

describe("the specification's test suite, whole", () => {
  test("is there", () => expect(VECTORS).toHaveLength(32));
  for (const vector of VECTORS) {
    test(`${vector.description}: ${vector.canonical_purl}`, () => {
      if (vector.is_invalid) expect(() => purlOf(vector)).toThrow();
      else expect(purlOf(vector)).toBe(vector.canonical_purl ?? "");
    });
  }
});

/*
 * The "build" cases of package-url/purl-spec, tests/types/deb-test.json at 4970e5af446e8337b0dbeaf444eca596e7afc6fb and
 * tests/types/npm-test.json at 00ecd91c3ba297684def951f327f5d2db1f5dfb5; below them what Debian and npm have besides.
 */
describe("deb and npm", () => {
  const CASES: [namespace: string | null, name: string, version: string, qualifiers: string, purl: string][] =
    [
      [
        "debian",
        "curl",
        "7.50.3-1",
        "arch=i386 distro=jessie",
        "deb/debian/curl@7.50.3-1?arch=i386&distro=jessie",
      ],
      [
        "debian",
        "dpkg",
        "1.19.0.4",
        "arch=amd64 distro=stretch",
        "deb/debian/dpkg@1.19.0.4?arch=amd64&distro=stretch",
      ],
      ["ubuntu", "dpkg", "1.19.0.4", "arch=amd64", "deb/ubuntu/dpkg@1.19.0.4?arch=amd64"],
      ["debian", "attr", "1:2.4.47-2", "arch=source", "deb/debian/attr@1:2.4.47-2?arch=source"],
      ["debian", "attr", "1:2.4.47-2+b1", "arch=amd64", "deb/debian/attr@1:2.4.47-2%2Bb1?arch=amd64"],
      ["@angular", "animation", "12.3.1", "", "npm/%40angular/animation@12.3.1"],
      [null, "foobar", "12.3.1", "", "npm/foobar@12.3.1"],
      [
        null,
        "mypackage",
        "12.4.5",
        "vcs_url=git://host.com/path/to/repo.git@4345abcd34343",
        "npm/mypackage@12.4.5?vcs_url=git://host.com/path/to/repo.git%404345abcd34343",
      ],
      [
        "debian",
        "g++",
        "4:12.2.0-3",
        "distro=debian-12 arch=amd64",
        "deb/debian/g%2B%2B@4:12.2.0-3?arch=amd64&distro=debian-12",
      ],
      ["debian", "x", "1.0~rc1-1", "arch=all", "deb/debian/x@1.0~rc1-1?arch=all"],
      [null, "a", "1.0.0-rc.1+build.5", "", "npm/a@1.0.0-rc.1%2Bbuild.5"],
      ["@a", "b*'c()!", "1.0.0", "", "npm/%40a/b%2A%27c%28%29%21@1.0.0"],
      [null, "a/../b?c#d", "1.0.0", "", "npm/a%2F..%2Fb%3Fc%23d@1.0.0"],
      [null, "a", "1?arch=x#y", "", "npm/a@1%3Farch%3Dx%23y"],
      [null, "a", "1", "arch=a&b", "npm/a@1?arch=a%26b"],
    ];
  for (const [namespace, name, version, qualifiers, purl] of CASES) {
    test(purl, () => {
      const pairs = qualifiers
        .split(" ")
        .filter(Boolean)
        .map((pair) => pair.split(/=(.*)/).slice(0, 2));
      const [type = ""] = purl.split("/", 1);
      expect(purlOf({ type, namespace, name, version, qualifiers: Object.fromEntries(pairs) })).toBe(
        `pkg:${purl}`,
      );
    });
  }
  for (const parts of [
    { type: "", name: "a" },
    { type: "deb", name: "" },
    { type: "3deb", name: "a" },
  ]) {
    test(`refused: ${JSON.stringify(parts)}`, () => {
      expect(() => purlOf({ ...parts, namespace: "debian", version: "1", qualifiers: null })).toThrow();
    });
  }
});

/*
 * The cases of tests/types/oci-test.json at 0ca0e9f8f184dfff0e56a2cc2f1d50822db749fb (12: 4 "build", 4 "parse", 4 "roundtrip") and
 * docker-test.json at 3c83b4c906cd92fa7d5eb0bb050bf1632e61d6c3 (18: 4 "build", 4 "parse", 5 "roundtrip"; its 5 of "validation" are of
 * lists of allowed qualifiers, which nothing here has). Aegis builds package URLs and never reads one: parsing is the library's. That
 * oci-test.json escapes the slash in values, which npm-test.json above does not; ours is the second spelling, of the same package URL.
 */
describe("images", () => {
  const CASES: [namespace: string | null, name: string, version: string, qualifiers: string, purl: string][] =
    [
      [
        ...([null, "debian", "sha256:244fd47e07d10"] as const),
        "arch=amd64 repository_url=docker.io/library/debian tag=latest",
        "oci/debian@sha256:244fd47e07d10?arch=amd64&repository_url=docker.io%2Flibrary%2Fdebian&tag=latest",
      ],
      [
        ...([null, "debian", "sha256:244fd47e07d10"] as const),
        "repository_url=ghcr.io/debian tag=bullseye",
        "oci/debian@sha256:244fd47e07d10?repository_url=ghcr.io%2Fdebian&tag=bullseye",
      ],
      [
        ...([null, "static", "sha256:244fd47e07d10"] as const),
        "repository_url=gcr.io/distroless/static tag=latest",
        "oci/static@sha256:244fd47e07d10?repository_url=gcr.io%2Fdistroless%2Fstatic&tag=latest",
      ],
      [null, "hello-wasm", "sha256:244fd47e07d10", "tag=v1", "oci/hello-wasm@sha256:244fd47e07d10?tag=v1"],
      [
        ...(["customer", "dockerimage", "sha256:244fd47e07d1004f0aed9c"] as const),
        "repository_url=gcr.io",
        "docker/customer/dockerimage@sha256:244fd47e07d1004f0aed9c?repository_url=gcr.io",
      ],
      [null, "cassandra", "latest", "", "docker/cassandra@latest"],
      ["smartentry", "debian", "dc437cc87d10", "", "docker/smartentry/debian@dc437cc87d10"],
      [
        ...(["customer", "dockerimage", "sha256:244fd47e07d10"] as const),
        "repository_url=gcr.io",
        "docker/customer/dockerimage@sha256:244fd47e07d10?repository_url=gcr.io",
      ],
    ];
  test.each(CASES)("%p %s %s %s", (namespace, name, version, qualifiers, purl) => {
    const pairs = qualifiers.split(" ").filter(Boolean);
    const values = Object.fromEntries(pairs.map((pair) => pair.split(/=(.*)/).slice(0, 2)));
    const [type = ""] = purl.split("/", 1);
    const canonical = `pkg:${purl.replaceAll("%2F", "/")}`;
    expect(purlOf({ type, namespace, name, version, qualifiers: values })).toBe(canonical);
    // As the parse and roundtrip cases spell it: escaped where it needn't be, and the qualifiers in another order.
    const [before = "", after] = purl.split("?", 2);
    const reversed = after === undefined ? "" : `?${after.split("&").reverse().join("&")}`;
    for (const spelling of [
      `pkg:${purl}`,
      canonical,
      `pkg:${purl.replace("sha256:", "sha256%3A")}`,
      `pkg:${before}${reversed}`,
    ]) {
      const read = PackageURL.fromString(spelling);
      expect([read.type, read.namespace ?? null, read.name, read.version]).toEqual([
        type,
        namespace,
        name,
        version,
      ]);
      expect({ ...read.qualifiers }).toEqual(values);
      const { namespace: theirs = null, qualifiers: theirValues = null } = read;
      expect(purlOf({ type, namespace: theirs, name, version, qualifiers: theirValues })).toBe(canonical);
    }
  });
});
