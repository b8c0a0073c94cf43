type Request = { scope: { resolve(name: string): { status(): Promise<unknown> } } }
type Response = { json(body: unknown): void }

/** `GET /admin/endcap`: is everything told, and if not, why. */
export const GET = async (req: Request, res: Response): Promise<void> => {
  res.json((await req.scope.resolve("endcap").status()) ?? { off: true })
}
