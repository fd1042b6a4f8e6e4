import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';

const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
const folder = mkdtempSync(path.join(tmpdir(), 'trapline-library-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

test('the kprobes of docs/kprobes.md, imported by the name of the package', () => {
  mkdirSync(path.join(folder, 'node_modules'));
  symlinkSync(root, path.join(folder, 'node_modules/trapline'));
  const text = `
import { Kprobe, Kretprobe, registerKprobe, registerKretprobe, selfKprobes, unregisterKprobe } from 'trapline';
function handle(request) { return request.url.length; }
const seen = [];
const kp = new Kprobe({ symbolName: 'app.mjs:handle', preHandler: (p, regs) => void seen.push(regs.arg(0)?.url) });
await registerKprobe(kp);
handle({ url: '/a' });
const rp = new Kretprobe({ kp: { symbolName: 'app.mjs:handle' }, handler: (ri, regs) => void seen.push(regs.retval) });
await registerKretprobe(rp);
handle({ url: '/bc' });
seen.push(selfKprobes().showList().length > 0);
await unregisterKprobe(kp);
console.log(JSON.stringify(seen));
process.exit(0);
`;
  writeFileSync(path.join(folder, 'app.mjs'), text);
  const out = execFileSync(process.execPath, ['app.mjs'], { cwd: folder, encoding: 'utf8' });
  expect(JSON.parse(out)).toEqual(['/a', '/bc', 3, true]);
});
