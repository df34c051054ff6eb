import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { compare } from "./npm-compare.ts";

/*
 * Compares our closures of real packages with those of this machine's npm, in which the registry and node are the same. Prints one line
 * a package, and what differs. Needs the network: scripts/agreement npm [package…]
 */

const PACKAGES = `
  express lodash chalk react react-dom axios commander debug yargs semver typescript eslint prettier webpack webpack-cli vite rollup
  esbuild jest mocha ava tap nyc nodemon pm2 http-server serve live-server json-server concurrently rimraf mkdirp glob minimatch
  npm-check-updates npm pnpm yarn @angular/cli @vue/cli create-react-app next nuxt gatsby-cli svelte @sveltejs/kit astro
  tailwindcss postcss autoprefixer sass less stylus babel-cli @babel/core @babel/cli @babel/preset-env ts-node tsx nx lerna turbo gulp
  grunt-cli bower browserify parcel terser uglify-js html-minifier cssnano svgo sharp bcrypt sqlite3 better-sqlite3 canvas node-sass
  puppeteer playwright cypress socket.io ws koa fastify hapi @nestjs/cli restify mongoose pg mysql2 redis ioredis sequelize-cli typeorm
  prisma knex winston pino bunyan morgan dotenv cross-env husky lint-staged standard xo stylelint markdownlint-cli cspell serverless
  firebase-tools netlify-cli vercel wrangler @anthropic-ai/claude-code @google/gemini-cli n nvm zx shelljs inquirer ora
  figlet-cli cowsay left-pad is-odd request node-gyp verdaccio forever license-checker depcheck madge dependency-cruiser
`
  .trim()
  .split(/\s+/);

const say = (line: string) => process.stdout.write(`${line}\n`);
const home = mkdtempSync("/tmp/npm-agreement-");
mkdirSync(join(home, "prefix/lib"), { recursive: true });
const totals = { equal: 0, different: 0, refused: 0 };
try {
  for (const target of process.argv.length > 2 ? process.argv.slice(2) : PACKAGES) {
    const { only, count, refusal } = await compare(target, home);
    const differing = only.ours.length + only.npms.length;
    totals[refusal !== null ? "refused" : differing > 0 ? "different" : "equal"]++;
    const words =
      refusal ??
      (differing === 0 ? "equal" : `only ours: ${only.ours.join(" ")}; only npm's: ${only.npms.join(" ")}`);
    say(`${target} (${count}): ${words}`);
  }
} finally {
  rmSync(home, { recursive: true, force: true });
}
say(
  `${JSON.stringify(totals)} against npm ${await new Response(Bun.spawn(["npm", "--version"]).stdout).text()}`,
);
