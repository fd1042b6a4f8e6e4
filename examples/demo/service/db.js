// The data layer: an in-memory store behind queries that take as long as a network database's.
const tables = {
  products: Array.from({ length: 200 }, (_, id) => ({
    id,
    name: `Product ${id}`,
    price: 5 + ((id * 37) % 95),
  })),
  reviews: Array.from({ length: 1000 }, (_, id) => ({ id, product: id % 200, stars: 1 + (id % 5) })),
  carts: [],
};

/** Milliseconds that a query takes: most are quick, a search reads everything. */
function latency(sql) {
  if (sql.startsWith('search')) return 18 + Math.random() * 30;
  if (sql.startsWith('insert')) return 4 + Math.random() * 6;
  return 1 + Math.random() * 4;
}

/** Runs one query and resolves to its rows. */
export async function query(sql, filter) {
  await new Promise((resolve) => setTimeout(resolve, latency(sql)));
  const [verb, table] = sql.split(' ');
  if (verb === 'insert') {
    tables[table].push(filter);
    if (tables[table].length > 1000) tables[table].shift();
    return [filter];
  }
  return tables[table].filter(filter);
}
