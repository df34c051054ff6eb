import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { dearmor } from "../src/apt-armor.ts";
import { armorKey, readPublicKey } from "../src/apt-openpgp.ts";
import { groupedFingerprint } from "../src/doc-repository.ts";
import { fixture } from "./apt-kit.ts";

const armored = (name: string) => fixture(`keys/repository/${name}.asc`);
const bytesOf = (name: string) => Buffer.from(dearmor(armored(name)) ?? []);
const read = (file: string | Uint8Array) =>
  readPublicKey(typeof file === "string" ? Buffer.from(file) : file);
const ED25519 = bytesOf("ed25519");

describe("files that are not one public key", () => {
  test.each<[what: string, file: string | Uint8Array, why: string]>([
    [
      "two primary keys",
      armored("two"),
      "holds 2 primary keys (8F0814313638E86483C5C178AF2DB912AF39821F, F9E00D5B06C6081F14AE49A9BFE1C8079EF2FD1D)",
    ],
    ["two primary keys, binary", bytesOf("two"), "holds 2 primary keys"],
    [
      "two armored blocks one after the other",
      armored("ed25519") + armored("rsa2048"),
      "holds 2 primary keys",
    ],
    ["one key twice", Buffer.concat([ED25519, ED25519]), "holds 2 primary keys"],
    [
      "a second key behind a subkey",
      Buffer.concat([bytesOf("subkey"), bytesOf("rsa2048")]),
      "holds 2 primary keys",
    ],
    ["a secret key", armored("secret"), "holds a secret key"],
    [
      "a secret key's packets, armored as a public one",
      armorKey(secretBytes()).join("\n"),
      "holds a secret key",
    ],
    ["a secret key behind a public one", Buffer.concat([ED25519, secretBytes()]), "holds a secret key"],
    ["nothing", "", "is empty"],
    ["text", "https://example.org/key.asc\n", "is not an OpenPGP key"],
    ["an HTML page", "<!DOCTYPE html><html></html>", "is not an OpenPGP key"],
    ["broken armor", armored("ed25519").replace(/^mDME/m, "mD!E"), "has ASCII armor that can't be read"],
    [
      "armor without an end",
      armored("ed25519").replace(/-----END.*/, ""),
      "has ASCII armor that can't be read",
    ],
    ["a key that is cut off", ED25519.subarray(0, -5), "is cut off"],
    ["a signature alone", ED25519.subarray(53), "does not begin with a public key"],
    [
      "a marker packet behind it",
      Buffer.concat([ED25519, Buffer.from([0xca, 3, 80, 71, 80])]),
      "holds a packet of type 10",
    ],
    ["a partial length", Buffer.concat([Buffer.from([0xc6, 0xe1]), ED25519]), "is cut off, or not"],
    ["an indeterminate length", Buffer.concat([Buffer.from([0x9b]), ED25519]), "is cut off, or not"],
    ["a key of version 3", version(3), "holds a key of version 3"],
    ["a key of version 6", version(6), "holds a key of version 6"],
    ["bytes behind the key's integers, which gpgv ignores", trailing(), "its fingerprint would be another"],
    ["an integer with a zero in front", padded(), "its fingerprint would be another"],
    ["an unknown algorithm", withByte(7, 99), "holds a key of an unknown algorithm"],
  ])("%s", (_, file, why) => expect(read(file)).toEqual(expect.stringContaining(why)));
});

describe("keys", () => {
  const key = (name: string) => {
    const found = read(armored(name));
    if (typeof found === "string") throw new Error(found);
    return found.key;
  };
  test("Ed25519, as gpg lists it", () =>
    expect(key("ed25519")).toEqual({
      fingerprint: "8F0814313638E86483C5C178AF2DB912AF39821F",
      algorithm: "Ed25519",
      created_at: "2024-01-01T00:00:00.000Z",
      expires_at: null,
      revoked: false,
      user_ids: ["Vendor One <one@vendor.example>"],
    }));
  test("the same, binary", () => expect(read(ED25519)).toMatchObject({ key: key("ed25519") }));
  test("with a subkey that expires: the key itself does not", () =>
    expect(key("subkey")).toEqual(key("ed25519")));
  test("RSA", () => expect(key("rsa2048")).toMatchObject({ algorithm: "RSA 2048", expires_at: null }));
  test("short and expiring", () =>
    expect(key("rsa1024-expired")).toMatchObject({
      algorithm: "RSA 1024",
      expires_at: "2024-12-31T00:00:00.000Z",
      weak: ["RSA of 1024 bits is too short"],
    }));
  test("DSA that vouches for itself with SHA-1", () =>
    expect(key("dsa1024-sha1").weak).toEqual([
      "DSA of 1024 bits is too short",
      "it vouches for itself with SHA-1 only",
    ]));
  test("revoked", () => expect(key("revoked")).toMatchObject({ revoked: true }));
  test("without any signature", () =>
    expect(read(ED25519.subarray(0, 53))).toMatchObject({
      key: { weak: ["it has no signature by itself"], user_ids: [] },
    }));
  test("a fingerprint in groups", () =>
    expect(groupedFingerprint(key("ed25519").fingerprint)).toBe(
      "8F08 1431 3638 E864 83C5 C178 AF2D B912 AF39 821F",
    ));
});

test("armor is what gpg writes", () =>
  expect(armorKey(ED25519).join("\n")).toBe(armored("ed25519").trimEnd()));

test("armor comes back as the bytes that went in", () =>
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 300 }), (bytes) => {
      expect(dearmor(armorKey(bytes).join("\n"))).toEqual(Buffer.from(bytes));
    }),
  ));

test("any bytes give a key or a reason, never an error", () =>
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat(ED25519.length - 1), (bytes, at) => {
      const broken = Buffer.from(ED25519);
      broken.set(bytes.slice(0, ED25519.length - at), at);
      for (const file of [bytes, broken, Buffer.concat([ED25519, bytes])]) readPublicKey(file);
    }),
  ));

function secretBytes(): Uint8Array {
  return Buffer.from(dearmor(armored("secret").replaceAll("PRIVATE", "PUBLIC")) ?? []);
}

function withByte(at: number, value: number): Uint8Array {
  const copy = Buffer.from(ED25519);
  copy[at] = value;
  return copy;
}

/** The key's packet with four bytes more. gpg lists it as the key without them. */
function trailing(): Uint8Array {
  const body = [...ED25519.subarray(2, 53), 1, 2, 3, 4];
  return Buffer.from([0x98, body.length, ...body, ...ED25519.subarray(53)]);
}

/** Its integer of 263 bits written as one of 271. */
function padded(): Uint8Array {
  const body = [...ED25519.subarray(2, 18), 1, 15, 0, ...ED25519.subarray(20, 53)];
  return Buffer.from([0x98, body.length, ...body, ...ED25519.subarray(53)]);
}

function version(number: number): Uint8Array {
  return withByte(2, number);
}
