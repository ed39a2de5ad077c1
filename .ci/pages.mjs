// Opens every page of a report in headless Chromium and prints what is wrong with it; exits with 1 where anything is.
// Usage: node .ci/pages.mjs FOLDER MODULES CHROMIUM, where FOLDER is a report, MODULES holds playwright-core and axe-core.
import { readdirSync, readFileSync, rmSync, mkdtempSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

const [folder, modules, executablePath] = process.argv.slice(2).map((path) => resolve(path));
const require = createRequire(join(modules, "/"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const pages = readdirSync(folder, { recursive: true }).filter((name) => name.endsWith(".html")).sort();
const work = mkdtempSync(join(tmpdir(), "pages-"));
const problems = [];

// Every figure lies inside the page, and no text of it over another.
const figures = () => {
  const found = [];
  const wide = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > wide) found.push(`the page is ${document.documentElement.scrollWidth} px wide, the window ${wide}`);
  for (const svg of document.querySelectorAll("svg.figure")) {
    const name = svg.getAttribute("aria-label");
    const box = svg.getBoundingClientRect();
    if (box.left < 0 || box.right > wide + 0.5 || box.width < 100) found.push(`figure “${name}” lies outside: ${box.left} to ${box.right}`);
    const texts = [...svg.querySelectorAll("text")].map((text) => [text.textContent, text.getBoundingClientRect()]);
    for (const [text, own] of texts) if (own.left < box.left - 1 || own.right > box.right + 1) found.push(`figure “${name}”: “${text}” is cut`);
    texts.forEach(([a, x], at) => texts.slice(at + 1).forEach(([b, y]) => {
      const [across, down] = [Math.min(x.right, y.right) - Math.max(x.left, y.left), Math.min(x.bottom, y.bottom) - Math.max(x.top, y.top)];
      if (across > 1 && down > 2.5) found.push(`figure “${name}”: “${a}” lies over “${b}”`);
    }));
  }
  return found;
};

// What Tab should reach, in a page as it opens.
const controls = () => [...document.querySelectorAll("a[href], button:not(:disabled), input, summary, [tabindex='0']")]
  .filter((node) => node.checkVisibility({ visibilityProperty: true })).length;

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync"] });
for (const name of pages) {
  const say = (what) => problems.push(`${name}: ${what}`);
  for (const [width, colorScheme] of [[1280, "light"], [390, "dark"]]) {
    const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme });
    const page = await context.newPage();
    page.on("console", (message) => say(`console: ${message.text()}`));
    page.on("pageerror", (error) => say(`script: ${error.message}`));
    page.on("request", (request) => { if (!/^(file|data|blob):/.test(request.url())) say(`asks for ${request.url()}`); });
    await page.goto(`file://${join(folder, name)}`);
    (await page.evaluate(figures)).forEach((what) => say(`at ${width} px: ${what}`));
    await page.evaluate(axe);
    const { violations } = await page.evaluate(() => axe.run({ resultTypes: ["violations"] }));
    for (const { id, impact, nodes } of violations.filter(({ impact }) => ["serious", "critical"].includes(impact))) {
      say(`axe, ${colorScheme}: ${impact} ${id}: ${nodes[0].html.slice(0, 160)}`);
    }
    if (width === 1280) await keyboardAndPrint(page, name, say);
    await context.close();
  }
}
await browser.close();
rmSync(work, { recursive: true });
problems.forEach((problem) => console.log(problem));
console.log(`${pages.length} pages at 1280 px in light and 390 px in dark: ${problems.length ? `${problems.length} problems` : "nothing wrong"}`);
process.exit(problems.length ? 1 : 0);

async function keyboardAndPrint(page, name, say) {
  const wanted = await page.evaluate(controls);
  const reached = await page.evaluate(() => { window.reached = new Set(); addEventListener("focusin", (event) => window.reached.add(event.target)); return 0; });
  for (let press = reached; press < wanted + 5; press += 1) await page.keyboard.press("Tab");
  const count = await page.evaluate(() => window.reached.size);
  if (count < wanted) say(`Tab reaches ${count} of ${wanted} controls`);
  const table = page.locator("table.data").first();
  if (await table.count()) {
    const button = table.locator("th button").first();
    await button.focus();
    await page.keyboard.press("Enter");
    if ((await table.locator("th").first().getAttribute("aria-sort")) !== "ascending") say("Enter on a head does not sort");
  }
  const filter = page.locator("input[type=search]").last();
  if (await filter.count()) {
    await filter.fill("no row holds this");
    const status = page.locator("[role=status]").last();
    if (!(await status.textContent()).startsWith("0 of")) say("a filter keeps rows that do not hold its words");
    await filter.fill("");
  }
  await page.pdf({ path: join(work, "page.pdf"), format: "A4" });
  if (statSync(join(work, "page.pdf")).size < 5000) say("prints to nothing");
}
