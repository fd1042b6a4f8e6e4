const statuses = new Map();

/** Called once for every response. */
export function access(route, status) {
  const key = `${route} ${status}`;
  statuses.set(key, (statuses.get(key) ?? 0) + 1);
}

export function report() {
  return Object.fromEntries(statuses);
}
