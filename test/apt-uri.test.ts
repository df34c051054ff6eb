import { describe, expect, test } from "bun:test";
import { archiveUri, listFileName } from "../src/apt-uri.ts";

/** As `apt-cache policy` and `apt-get indextargets` show it. */
describe("archiveUri", () => {
  for (const [text, uri] of [
    ["http://x.example", "http://x.example"],
    ["http://x.example/", "http://x.example"],
    ["http://x.example/d//", "http://x.example/d/"],
    ["https://me:secret@x.example:8443/d/", "https://x.example:8443/d"],
    ["https://me@there@x.example/d", "https://x.example/d"],
    ["http://x.example/a@b", "http://x.example/a@b"],
    ["http://[::1]/d", "http://[::1]/d"],
    ["http://me@[::1]:80/d", "http://[::1]:80/d"],
    ["file:/srv/repo/", "file:/srv/repo"],
    ["file:///srv/repo", "file:/srv/repo"],
    ["copy:/", "copy:"],
    ["cdrom:[Disk]/", "cdrom://Disk"],
  ] as const) {
    test(`${text}: ${uri}`, () => expect(archiveUri(text)).toBe(uri));
  }
  for (const text of [
    "",
    "x",
    ":x",
    "http://",
    "http://x:/",
    "http://x:0/",
    "http://x:08/",
    "http://x:a/",
    "http://[::1/",
    "http://[a]b/",
    "http://a:b:80/",
  ]) {
    test(`refused: ${text}`, () => expect(archiveUri(text)).toBeNull());
  }
});

/** File names from a real apt. */
describe("listFileName", () => {
  for (const [uri, suite, file, name] of [
    [
      "http://deb.debian.org/debian",
      "bookworm",
      "InRelease",
      "deb.debian.org_debian_dists_bookworm_InRelease",
    ],
    [
      "http://deb.debian.org/debian-security",
      "bookworm-security",
      "InRelease",
      "deb.debian.org_debian-security_dists_bookworm-security_InRelease",
    ],
    ["file:/tmp/apt-lab/repoB", "st", "Release", "_tmp_apt-lab_repoB_dists_st_Release"],
    ["file:/tmp/apt-exp/repoB", "./", "Packages", "_tmp_apt-exp_repoB_._Packages"],
    ["https://x.example:8443/a_b/~me", "s", "InRelease", "x.example:8443_a%5fb_%7eme_dists_s_InRelease"],
    ["https://x.example/é", "/", "Release", "x.example_%c3%a9_Release"],
    ["http://[::1]:8080/d", "s", "InRelease", "::1:8080_d_dists_s_InRelease"],
    ["http://x.example", "s+t~1", "InRelease", "x.example_dists_s%252bt%257e1_InRelease"],
    ["http://x.example/a+b", "c+/", "InRelease", "x.example_a+b_c%252b_InRelease"],
    ["http://x.example", "a/b", "InRelease", "x.example_dists_a_b_InRelease"],
    ["cdrom://Disk", "s", "Release", "Disk_dists_s_Release"],
  ] as const) {
    test(name, () => expect(listFileName({ uri, suite }, file)).toBe(name));
  }
});
