/** Script urls as the paths that users type. */

/** `file:///a/b%20c.js` → `/a/b c.js`; paths, `node:` and other names stay as they are. */
export function scriptPath(url: string): string {
  if (!url.startsWith('file://')) return url;
  const path = url.slice('file://'.length).replace(/[?#].*$/, '');
  const decoded = path.includes('%') ? decode(path) : path;
  // file:///C:/x is C:/x
  return /^\/[A-Za-z]:\//.test(decoded) ? decoded.slice(1) : decoded;
}

function decode(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}
