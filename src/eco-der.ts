import { AegisError } from "./errors.ts";

/*
 * A strict reader of DER (ITU-T X.690): definite lengths in their shortest form, low tag numbers, and nothing behind the end. What a
 * signature covers is then one string of bytes with one meaning.
 */

export const TAG = {
  integer: 0x02,
  octets: 0x04,
  oid: 0x06,
  utf8: 0x0c,
  ia5: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** The tag of a context-specific element, constructed or not. */
export const contextTag = (number: number, constructed = true) => 0x80 | (constructed ? 0x20 : 0) | number;

export interface DerElement {
  tag: number;
  content: Uint8Array;
  /** With tag and length. */
  raw: Uint8Array;
}

/**
 * The single element that these bytes are.
 * @throws AegisError `invalid_document`
 */
export function readDer(bytes: Uint8Array): DerElement {
  const { element, end } = elementAt(bytes, 0);
  if (end !== bytes.length) throw notDer("something stands behind its end");
  return element;
}

/**
 * The elements inside another.
 * @throws AegisError `invalid_document`
 */
export function derChildren({ content, tag }: DerElement): DerElement[] {
  if ((tag & 0x20) === 0) throw notDer("an element that should hold others doesn't");
  const found: DerElement[] = [];
  for (let at = 0; at < content.length; ) {
    const { element, end } = elementAt(content, at);
    found.push(element);
    at = end;
  }
  return found;
}

/**
 * An element that has to be there, with this tag.
 * @throws AegisError `invalid_document`
 */
export function expectTag(element: DerElement | undefined, tag: number): DerElement {
  if (element?.tag !== tag) throw notDer(`an element of tag ${tag} is missing`);
  return element;
}

/** An object identifier in dotted decimal. @throws AegisError `invalid_document` */
export function oidOf(element: DerElement | undefined): string {
  const { content } = expectTag(element, TAG.oid);
  const numbers: bigint[] = [];
  let number = 0n;
  for (const [i, byte] of content.entries()) {
    if (number === 0n && byte === 0x80) throw notDer("an object identifier is padded");
    number = (number << 7n) | BigInt(byte & 0x7f);
    if ((byte & 0x80) !== 0) {
      if (i === content.length - 1 || number > 1n << 64n) throw notDer("an object identifier is broken");
      continue;
    }
    numbers.push(number);
    number = 0n;
  }
  const [first = 0n, ...rest] = numbers;
  const top = first < 40n ? 0n : first < 80n ? 1n : 2n;
  return [top, first - top * 40n, ...rest].join(".");
}

/** A time, of the two kinds that certificates and timestamps have, in UTC. @throws AegisError `invalid_document` */
export function timeOf({ tag, content }: DerElement): Date {
  const text = Buffer.from(content).toString("latin1");
  const pattern =
    tag === TAG.utcTime
      ? /^(\d\d)(\d{10})()Z$/
      : tag === TAG.generalizedTime
        ? /^(\d{4})(\d{10})(\.\d{1,9})?Z$/
        : null;
  const [, year = "", rest = "", fraction = ""] = pattern?.exec(text) ?? [];
  const century = tag === TAG.utcTime ? (Number(year) < 50 ? "20" : "19") : "";
  const [month, day, hour, minute, second] = rest.match(/\d\d/g) ?? [];
  const time = new Date(
    `${century}${year}-${month}-${day}T${hour}:${minute}:${second}${fraction.slice(0, 4)}Z`,
  );
  if (pattern === null || Number.isNaN(time.getTime())) throw notDer("a time can't be read");
  return time;
}

function elementAt(bytes: Uint8Array, at: number): { element: DerElement; end: number } {
  const [tag, first] = [bytes[at], bytes[at + 1]];
  if (tag === undefined || first === undefined) throw notDer("it ends too early");
  if ((tag & 0x1f) === 0x1f) throw notDer("a tag is too large");
  let start = at + 2;
  let length = first;
  if (first >= 0x80) {
    const size = first & 0x7f;
    if (size === 0 || size > 4) throw notDer("a length is not definite");
    length = 0;
    for (const byte of bytes.subarray(start, start + size)) length = length * 256 + byte;
    start += size;
    if (length < 0x80 || length < 256 ** (size - 1)) throw notDer("a length is longer than it need be");
  }
  const end = start + length;
  if (end > bytes.length) throw notDer("it ends too early");
  return { element: { tag, content: bytes.subarray(start, end), raw: bytes.subarray(at, end) }, end };
}

export function notDer(why: string): AegisError {
  return new AegisError("invalid_document", `not a signature that can be read: ${why}`);
}
