import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { isWrapperName, WRAPPER_NAMES, type WrapperName } from "../src/eco-names.ts";
import { judge, type WrapVerdict } from "../src/wrap-judge.ts";
import { PROGRAMS } from "../src/wrap-table.ts";
import { callsOf } from "./wrapper-kit.ts";

/** `npm ci` → what becomes of it. A word may be quoted with '. */
function verdictOf(line: string): WrapVerdict {
  const [name = "", ...words] = (line.match(/'[^']*'|\S+/g) ?? []).map((word) => word.replaceAll("'", ""));
  if (!isWrapperName(name)) throw new Error(`no wrapper: ${name}`);
  return judge(name, words);
}

describe("refused", () => {
  const CASES: [line: string, why: string][] = [
    // What changes something and can't be planned as it stands.
    ["apt-get autopurge", "deletes configuration"],
    ["apt-mark auto nginx", "what autoremove would remove"],
    ["apt-mark minimize-manual -y", "what autoremove would remove"],
    ["apt-mark remove nginx", "tells dpkg"],
    ["apt-mark hold --file=/etc/passwd", "does not know --file"],
    ["apt-mark showhold --file=/etc/passwd", "does not know --file"],
    ["apt edit-sources", "trusts"],
    ["apt-get install -y --no-install-recommends nginx", "a plan can't have --no-install-recommends"],
    ["apt-get -t bookworm-backports install nginx", "a plan can't have -t"],
    ["apt-get install --allow-downgrades nginx", "a plan can't have --allow-downgrades"],
    ["apt-get -f install", "a plan can't have -f"],
    ["apt-get install -d nginx", "a plan can't have -d"],
    ["apt-get -o Dpkg::Options::=--force-all install nginx", "a plan can't have -o"],
    ["apt-get download nginx", "does not know download"],
    ["apt-get source nginx", "does not know source"],
    ["apt -a list", "does not know -a"],
    // A verb of apt's as a value would make its table of options another one.
    ["apt -c policy -s list install nginx", "does not know -c"],
    ["apt -c list -a install list nginx", "does not know -c"],
    ["apt-get clean", "does not know clean"],
    // For these verbs apt reads `-s` as `--src-cache <value>`: the verb is swallowed, and the next word is carried out.
    ["apt -s search install hello-x -y", "only as the first word"],
    ["apt -s policy remove x -y", "only as the first word"],
    ["apt -qqs showsrc install x", "only as the first word"],
    ["apt -s depends install x", "only as the first word"],
    ["apt -s rdepends install x", "only as the first word"],
    ["apt -qq list", "only as the first word: apt list"],
    ["apt -o X=Y list", "only as the first word"],
    ["apt list install nginx", "with install after it"],
    ["apt-get -s install nginx remove", "a plan can't have -s"],
    ["apt list -o Dir::Bin::dpkg=/tmp/evil", "does not know -o after it"],
    ["apt list -oDir::Bin::dpkg=/tmp/evil", "does not know -oDir::Bin::dpkg=/tmp/evil after it"],
    ["apt show -c /tmp/evil nginx", "does not know -c after it"],
    ["apt show --config-file=/tmp/evil nginx", "does not know --config-file=/tmp/evil after it"],
    ["apt search -s install nginx", "does not know -s after it"],
    ["apt list -- install", "does not know -- after it"],
    ["apt-get check -f", "does not know -f after it"],
    ["apt-get changelog -d nginx", "does not know -d after it"],
    ["aptitude -v", "does not know -v"],
    ["aptitude -i", "does not know -i"],
    ["aptitude -s install nginx", "a plan can't have -s"],
    ["aptitude install nginx -s", "a plan can't have -s"],
    // A simulation that could be switched off again, or that runs what an option names.
    ["apt-get -s --no-simulate install nginx", "does not know --no-simulate"],
    ["apt-get -s --simulate=no install nginx", "does not know --simulate=no"],
    ["apt-get -s -o APT::Get::Simulate=false install nginx", "a plan can't have -s"],
    ["apt-get install -s -c /tmp/x nginx", "does not know -c"],
    ["apt-get install -y -s no nginx", "a plan can't have -s"],
    ["apt-get install nginx --dry-run OFF", "a plan can't have --dry-run"],
    ["apt-get install -s 0x0 nginx", "a plan can't have -s"],
    ["apt-get install -s '' nginx", "a plan can't have -s"],
    ["apt-get autoremove -y -s 0", "a plan can't have -s"],
    ["npm --tag --prefix ls install left-pad", "--tag has no value"],
    ["code --locale --install-extension a.b", "--locale has no value"],
    ["docker --context", "--context has no value"],
    ["apt-get install nginx -s=false", "does not know -s=false"],
    ["apt-get install --help --no-help nginx", "does not know --help"],
    ["apt-get --version install nginx", "does not know --version"],
    ["apt-get -h install nginx", "does not know -h"],
    ["aptitude", "without a verb"],
    ["aptitude forbid-version x", "does not know forbid-version"],
    ["npm ci", "lifecycle scripts"],
    ["npm run build", "runs scripts"],
    ["npm test", "runs scripts"],
    ["npm start", "runs scripts"],
    ["npm exec cowsay", "download a package and run"],
    ["npm init vite", "download a package and run"],
    ["npm uninstall x", "changes what is installed"],
    ["npm update", "changes what is installed"],
    ["npm audit fix", "may not be read-only"],
    ["npm audit --omit dev fix", "may not be read-only"],
    ["npm --prefix x view left-pad", "only as the first word"],
    ["npm --tag view install left-pad", "a plan can't have --tag"],
    ["npm view left-pad --viewer=/tmp/evil", "does not know --viewer=/tmp/evil after it"],
    ["npm ls --userconfig /tmp/evil", "does not know --userconfig after it"],
    ["npm view git+file:///tmp/evil", "may not be read-only"],
    ["npm view evil@git+file:///tmp/evil", "may not be read-only"],
    ["npm view github:evil/evil", "may not be read-only"],
    ["npm view evil/evil", "may not be read-only"],
    ["npm view ./evil", "may not be read-only"],
    ["npm fund left-pad", "may not be read-only"],
    ["npm doctor", "does not know doctor"],
    ["npm ls install left-pad", "with install after it"],
    ["npm version 2.0.0", "does not know version"],
    ["npm config set registry http://evil", "does not know config"],
    ["npm set registry http://evil", "does not know set"],
    ["npm publish", "does not know publish"],
    ["npm --prefix x install left-pad", "a plan can't have --prefix"],
    ["npm --prefix=x install left-pad", "a plan can't have --prefix"],
    ["npm --global true install left-pad", "does not know true"],
    ["npm --unknown view install left-pad", "does not know --unknown"],
    ["npm install --save-dev left-pad", "does not know --save-dev"],
    ["npm constructor", "does not know constructor"],
    ["npm __proto__", "does not know __proto__"],
    ["pip install -r requirements.txt", "requirements-file-denied"],
    ["pip3 install --requirement=requirements.txt", "requirements-file-denied"],
    ["pip install -e .", "local-path-denied"],
    ["pip install --user flask", "does not know --user"],
    ["pip install --target /opt flask", "does not know --target"],
    ["pip install --break-system-packages flask", "does not know --break-system-packages"],
    ["pip --python /tmp/evil list", "does not know --python"],
    ["pip list --python /tmp/evil", "does not know --python after it"],
    // pip takes abbreviations: this is --python too.
    ["pip list --pyth /tmp/evil", "does not know --pyth after it"],
    // For these verbs it is --local-log <file>, which is written.
    ["pip check --local /etc/evil", "does not know --local after it"],
    ["pip config list --local /etc/evil", "does not know --local after it"],
    ["pip list --log /etc/evil", "does not know --log after it"],
    ["pip freeze -qr x", "does not know -qr after it"],
    ["pip -q freeze", "only as the first word"],
    ["pip show install", "with install after it"],
    ["pip download flask", "runs their code"],
    ["pip uninstall flask", "changes what is installed"],
    ["pip config set global.index-url http://evil", "does not know config"],
    ["docker run alpine", "may pull an image"],
    ["docker run alpine --help", "may pull an image"],
    ["docker --context x run --rm -it alpine sh", "may pull an image"],
    ["docker create alpine", "may pull an image"],
    ["docker compose up -d", "may pull an image"],
    ["docker compose -f x.yml ps", "may pull an image"],
    ["docker build .", "nobody has reviewed"],
    ["docker load -i x.tar", "nobody has reviewed"],
    ["docker exec x sh", "in a container"],
    ["docker rm x", "does not know rm"],
    ["docker image rm x", "does not know image"],
    ["docker pull --platform linux/arm64 alpine", "does not know --platform"],
    ["docker --host unix:///x ps", "only as the first word"],
    ["docker -H tcp://x images", "only as the first word"],
    ["docker --config /tmp/evil search x", "only as the first word"],
    ["docker ps run", "with run after it"],
    ["docker help evil", "with evil after it"],
    ["podman --root /x images", "only as the first word"],
    ["podman images --root /x", "does not know --root after it"],
    ["podman ps --runtime=/tmp/evil", "does not know --runtime=/tmp/evil after it"],
    ["podman top x", "does not know top"],
    ["podman compose ps", "may pull an image"],
    ["podman run alpine", "may pull an image"],
    ["go build ./...", "download modules"],
    ["go list -m all", "download modules"],
    ["go mod download", "download modules"],
    ["go run .", "run their code"],
    ["go test ./...", "run their code"],
    ["go env -w GOPROXY=http://evil", "does not know -w after it"],
    ["go env --w GOPROXY=http://evil", "does not know --w after it"],
    ["go env GOPROXY=http://evil", "with GOPROXY=http://evil after it"],
    ["go doc golang.org/x/text", "download modules"],
    ["go -C /tmp version", "does not know -C"],
    ["cargo build", "build scripts"],
    ["cargo +nightly build", "does not know +nightly"],
    ["cargo -q test", "build scripts"],
    ["cargo fetch", "download crates"],
    ["cargo install --git https://x/y", "does not know --git"],
    ["cargo install --path .", "does not know --path"],
    ["cargo install a b --version 1.0.0", "a version belongs to one package"],
    ["cargo install a@1.0.0 --version 2.0.0", "a version belongs to one package"],
    ["cargo install a --version 1.0.0 --vers 2.0.0", "a version belongs to one package"],
    ["cargo install a --version --git", "a version belongs to one package"],
    ["cargo install a --version", "a version belongs to one package"],
    ["cargo install --version 1.0.0", "a version belongs to one package"],
    ["cargo install --root /opt a", "does not know --root"],
    ["cargo install --force a", "does not know --force"],
    ["cargo install --index https://evil/ a", "does not know --index"],
    ["cargo install --registry evil a", "does not know --registry"],
    ["cargo install --config net.offline=false a", "does not know --config"],
    ["cargo +nightly install a", "does not know +nightly"],
    ["go install -ldflags=-X=a=b x.org/y@v1.0.0", "does not know -ldflags=-X=a=b"],
    ["go install -toolexec /tmp/evil x.org/y@v1.0.0", "does not know -toolexec"],
    ["go get -u x.org/y", "does not know -u"],
    ["npm i -g --ignore-scripts=false x", "does not know --ignore-scripts=false"],
    ["npm install --location global x", "does not know --location"],
    ["npm i --registry http://evil/ x", "a plan can't have --registry"],
    ["pip install --index-url http://evil/ x", "does not know --index-url"],
    ["pip install --extra-index-url=http://evil/ x", "does not know --extra-index-url=http://evil/"],
    ["pip install -i http://evil/ x", "does not know -i"],
    ["pip install --no-binary :all: x", "does not know --no-binary"],
    ["pip install --pre x", "does not know --pre"],
    ["pip install --trusted-host evil x", "a plan can't have --trusted-host"],
    ["cargo uninstall ripgrep", "changes what is installed"],
    ["cargo info x", "does not know info"],
    ["cargo help evil", "with evil after it"],
    ["cargo -q search x", "only as the first word"],
    ["cargo search x --config /tmp/evil", "does not know --config after it"],
    ["cargo --list install x", "does not know --list"],
    ["cargo evil --help", "does not know evil"],
    ["nuget restore", "changes what is installed"],
    ["nuget sources add -Name x", "does not know sources"],
    ["nuget list /ConfigFile /tmp/evil", "with /ConfigFile after it"],
    ["nuget list -ConfigFile x", "does not know -ConfigFile after it"],
    ["code --install-extension --help", "does not know --help"],
    ["code --list-extensions tunnel", "with tunnel after it"],
    ["code -n --list-extensions", "only as the first word"],
    ["code --log tunnel", "--log has no value"],
    ["code --profile new .", "does not know --profile"],
    ["code --uninstall-extension x.y", "changes what is installed"],
    ["code --list-extensions --install-extension x.y", "does not know --install-extension after it"],
    ["code --list-extensions --install-extension=x.y", "does not know --install-extension=x.y after it"],
    ["code --extensionDevelopmentPath=/tmp/x .", "does not know --extensionDevelopmentPath"],
    ["code tunnel", "gives others access"],
    ["code --unknown x", "does not know --unknown"],
    ["code-server --uninstall-extension x.y", "changes what is installed"],
    ["code-server --bind-addr 0.0.0.0:80", "does not know --bind-addr"],
    ["code-server --list-extensions --install-extension x.y", "does not know --install-extension after it"],
    ["code-server --verbose --list-extensions", "only as the first word"],
  ];
  for (const [line, why] of CASES)
    test(line, () => {
      const verdict = verdictOf(line);
      expect(verdict).toMatchObject({ does: "refuse" });
      expect(verdict.does === "refuse" && verdict.why).toContain(why);
    });

  test("apt install -f without a package is a repair", () => {
    const lines = ["apt install -f", "apt-get -f install", "apt-get -fy install", "apt --fix-broken install"];
    for (const line of lines)
      expect(verdictOf(line)).toMatchObject({ does: "refuse", instead: ["plan", "apt", "repair"] });
    expect(verdictOf("apt-get -f install nginx")).toMatchObject({
      instead: ["plan", "apt", "install", "nginx"],
    });
  });

  test("a request that could be planned without an option says how", () => {
    expect(verdictOf("apt-get install -y --no-install-recommends nginx")).toMatchObject({
      instead: ["plan", "apt", "install", "nginx"],
    });
    expect(verdictOf("apt-get -t backports install nginx")).toMatchObject({
      instead: ["plan", "apt", "install", "nginx"],
    });
  });
});

describe("planned", () => {
  const CASES: [line: string, plan: string][] = [
    ["apt update", "apt update"],
    ["apt-get -qq -y update", "apt update"],
    ["apt upgrade -y", "apt upgrade"],
    ["aptitude safe-upgrade", "apt upgrade"],
    ["aptitude full-upgrade", "apt full-upgrade"],
    ["aptitude purge nginx", "apt purge nginx"],
    ["apt full-upgrade", "apt full-upgrade"],
    ["apt-get dist-upgrade -y", "apt full-upgrade"],
    ["apt-get -y purge nginx", "apt purge nginx"],
    ["apt autoremove -y", "apt autoremove"],
    ["apt-mark hold nginx", "apt hold nginx"],
    ["apt-mark unhold nginx libc6:i386", "apt unhold nginx libc6:i386"],
    ["apt install nginx", "apt install nginx"],
    ["apt -y install nginx", "apt install nginx"],
    ["apt-get -qqy install nginx curl=8", "apt install nginx curl=8"],
    ["apt-get install -y nginx --quiet curl", "apt install nginx curl"],
    ["apt-get remove nginx", "apt remove nginx"],
    ["apt install ./evil.deb", "apt install ./evil.deb"],
    ["apt install nginx-", "apt install nginx-"],
    ["npm install -g left-pad", "npm install left-pad"],
    ["npm i left-pad@1.3.0", "npm install left-pad@1.3.0"],
    ["npm -g add left-pad", "npm install left-pad"],
    ["npm isntall left-pad", "npm install left-pad"],
    ["npm install --dry-run left-pad", "npm install left-pad"],
    ["npm install git+https://x/y", "npm install git+https://x/y"],
    ["npm install", "npm install"],
    ["pip install flask==3.0", "pip install flask==3.0"],
    ["pip3 -q install --upgrade flask", "pip install flask"],
    ["docker pull alpine:3", "docker pull alpine:3"],
    ["docker image pull alpine", "docker pull alpine"],
    ["podman pull -q alpine", "podman pull alpine"],
    ["nuget install Newtonsoft.Json", "nuget install Newtonsoft.Json"],
    ["nuget install Newtonsoft.Json -Version 13.0.3 -NonInteractive", "nuget install Newtonsoft.Json@13.0.3"],
    ["code --install-extension ms-python.python --force", "vscode install ms-python.python"],
    ["code --install-extension=ms-python.python", "vscode install ms-python.python"],
    ["code-server --install-extension ms-python.python --force", "vscode install ms-python.python"],
    ["code-server --install-extension=ms-python.python@1.0.0", "vscode install ms-python.python@1.0.0"],
    ["go get golang.org/x/text@v0.3.0", "go get golang.org/x/text@v0.3.0"],
    ["go get -v golang.org/x/text@v0.3.0", "go get golang.org/x/text@v0.3.0"],
    ["go install x.org/y@latest", "go install x.org/y@latest"],
    ["go install -v -x x.org/y/cmd/z@v1.2.3", "go install x.org/y/cmd/z@v1.2.3"],
    ["npm i -g left-pad@1.3.0", "npm install left-pad@1.3.0"],
    [
      "npm install --global left-pad@1.3.0 @types/node@22.0.0",
      "npm install left-pad@1.3.0 @types/node@22.0.0",
    ],
    ["npm install --location=global left-pad", "npm install left-pad"],
    ["pip3 install idna==3.10 flask==3.0", "pip install idna==3.10 flask==3.0"],
    ["pip install -U --no-cache-dir idna", "pip install idna"],
    ["cargo install --locked ripgrep", "cargo install ripgrep"],
    ["cargo install ripgrep@14.1.0", "cargo install ripgrep@14.1.0"],
    ["cargo install ripgrep --version 14.1.0", "cargo install ripgrep@14.1.0"],
    ["cargo install --version=14.1.0 --locked cargo-edit", "cargo install cargo-edit@14.1.0"],
    ["cargo -q install --vers 14.1.0 ripgrep", "cargo install ripgrep@14.1.0"],
  ];
  for (const [line, plan] of CASES)
    test(line, () => {
      const verdict = verdictOf(line);
      const { ecosystem, operation, targets } =
        verdict.does === "plan" ? verdict : { ecosystem: verdict.does, operation: "", targets: [] };
      expect([ecosystem, operation, ...targets].join(" ")).toBe(plan);
    });
});

describe("passed", () => {
  const CASES = [
    ...["apt", "apt --version", "apt list --upgradable", "apt show nginx", "apt search web"],
    ...[
      "apt policy",
      "apt-get -s install nginx",
      "apt-get install --dry-run nginx",
      "apt-get -sy dist-upgrade",
    ],
    ...["apt-get --simulate -y --no-install-recommends install nginx", "apt-get install --just-print nginx"],
    ...[
      "apt-get -s remove nginx",
      "apt-get -qs upgrade",
      "apt-get check",
      "apt list --upgradable -qq",
      "apt help install",
      "apt search -fn web",
      "apt install --help",
    ],
    ...["aptitude search nginx", "aptitude why nginx", "aptitude --version"],
    ...[
      "npm",
      "npm --version",
      "npm -v",
      "npm view left-pad --json",
      "npm view left-pad --prefix=/tmp",
      "npm view @scope/x@^1 dist.tarball --json",
      "npm help install",
      "npm ls -g",
    ],
    ...["npm config get registry", "npm audit", "npm audit signatures", "npm install --help", "npm outdated"],
    ...[
      "pip list",
      "pip3 show flask",
      "pip --version",
      "pip freeze -q --all",
      "pip help install",
      "pip list -o --format=json",
      "pip index versions flask",
      "pip check",
    ],
    ...[
      "docker",
      "docker ps -a",
      "docker images -aq --filter dangling=true",
      "docker help run",
      "docker logs -f x",
    ],
    ...[
      "docker image ls",
      "docker manifest inspect alpine",
      "docker run --help",
      "docker compose ps",
      "podman ps",
    ],
    ...[
      "podman images --sort size",
      "nuget list x",
      "nuget sources list",
      "go version",
      "go env GOPROXY",
      "go help doc",
    ],
    ...["cargo --version", "cargo search x", "cargo --list", "cargo help install", "cargo build --help"],
    ...["code", "code .", "code -g src/x.ts:3", "code -n a b", "code --list-extensions --show-versions"],
    ...["code --version", "code -", "code --diff a b"],
  ];
  for (const line of CASES) test(line, () => expect(verdictOf(line)).toEqual({ does: "pass" }));
});

test("every name has a table", () => {
  expect(Object.keys(PROGRAMS).sort()).toEqual([...WRAPPER_NAMES].sort());
});

test("property: a call that passes starts with a read-only verb, simulates, or is a single word", () => {
  const calls = fc
    .constantFrom<WrapperName>("apt", "apt-get", ...WRAPPER_NAMES)
    .chain((name) => fc.tuple(fc.constant(name), callsOf(name)));
  const sorts = { looks: 0, simulates: 0, other: 0 };
  fc.assert(
    fc.property(calls, ([name, words]) => {
      if (judge(name, words).does !== "pass") return;
      const { verbs, alone, bare, files } = PROGRAMS[name];
      const own = (label: string) => (Object.hasOwn(verbs, label) ? verbs[label] : undefined);
      const [first = "", second = "", ...more] = words;
      const changing = (word: string) => {
        const verb = own(word);
        return verb !== undefined && !("options" in verb);
      };
      const looks = own(`${first} ${second}`) ?? own(first);
      if (looks !== undefined && "options" in looks) {
        sorts.looks++;
        if (looks.words !== "any" && looks.words !== "verbs") {
          const behind = own(`${first} ${second}`) === undefined ? [second, ...more] : more;
          expect(behind.filter(changing)).toEqual([]);
        }
        expect(words.filter((word) => /^--(?:$|(?:log|python|config|root)(?:=|$))/.test(word))).toEqual([]);
        return;
      }
      const verbsThere = words.filter((word) => own(word) !== undefined);
      if (["apt", "apt-get"].includes(name) && verbsThere.length > 0 && !words.includes("--help")) {
        sorts.simulates++;
        const before = words.slice(0, words.findIndex(changing));
        expect(before.every((word) => word.startsWith("-"))).toBe(true);
        expect(words.filter(changing)).toHaveLength(1);
        expect(words.join(" ")).toMatch(
          /(?:^| )-(?:[a-zA-Z]*s|-simulate|-just-print|-dry-run|-recon|-no-act)/,
        );
        return;
      }
      sorts.other++;
      const isAlone = words.length === 0 ? bare : words.length === 1 && alone.includes(first);
      const isHelp = [second, ...more].filter((word) => word !== "").at(-1) === "--help" && words.length <= 3;
      expect(isAlone || isHelp || (files === true && verbsThere.length === 0)).toBe(true);
    }),
    { numRuns: 20_000 },
  );
  expect(Math.min(...Object.values(sorts))).toBeGreaterThan(10);
});
