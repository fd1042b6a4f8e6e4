import { total } from './cart.js';
import { query } from './db.js';

export async function findProduct(id) {
  const [product] = await query('select products', (row) => row.id === id);
  return product;
}

export async function reviewsOf(id) {
  return await query('select reviews', (row) => row.product === id);
}

export async function productPage(id) {
  const product = await findProduct(id);
  if (product === undefined) return undefined;
  const reviews = await reviewsOf(id);
  const stars = reviews.reduce((sum, review) => sum + review.stars, 0) / Math.max(1, reviews.length);
  return { ...product, stars };
}

export async function search(text) {
  return await query('search products', (row) => row.name.includes(text));
}

export async function checkout(items) {
  const priced = [];
  for (const { id, quantity } of items) priced.push({ ...(await findProduct(id)), quantity });
  const order = { items: priced, total: total(priced) };
  await query('insert carts', order);
  return order;
}
