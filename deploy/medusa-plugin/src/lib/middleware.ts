import type { Written } from "./admin"
import { edit, Look } from "./content"

/** Express and Medusa, as far as they are used here. */
export type Request = {
  method: string
  originalUrl: string
  body?: unknown
  auth_context?: { actor_id?: string }
  scope: { resolve(name: string, options?: { allowUnregistered?: boolean }): unknown }
}
export type Response = { statusCode: number; writableEnded: boolean; destroyed?: boolean; once(event: "close", listener: () => void): void }

type Service = { begins(method: string, path: string): (written?: Written) => void; products: Look }

/** How often a request is looked at whose client hung up. */
const LOOK_MS = 250
/** And how often at the most: ten minutes. */
const LOOKS_MAX = 2_400

/** Reports each admin request that may have written, when its handler is done. */
export function report(req: Request, res: Response, next: () => void): void {
  const service = req.scope.resolve("endcap", { allowUnregistered: true }) as Service | undefined
  const ended = service?.begins(req.method, req.originalUrl)
  const tell = (looks: number): void => {
    // A client that hangs up does not stop the handler: it goes on and may yet write.
    if (!res.writableEnded && looks < LOOKS_MAX) return void setTimeout(() => tell(looks + 1), LOOK_MS).unref()
    const { method, originalUrl: path, body, auth_context } = req
    // Who was not let in changed nothing.
    ended?.(auth_context?.actor_id ? { method, path, body, status: res.statusCode } : undefined)
  }
  // A client that hung up already does so no more.
  if (res.destroyed) tell(0)
  else res.once("close", () => tell(0))
  edit(req.method, req.originalUrl, req.body, next, service && ((ids) => service.products(ids)))
}
