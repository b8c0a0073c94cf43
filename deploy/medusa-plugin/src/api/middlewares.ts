import { report } from "../lib/middleware"

export default {
  routes: [{ matcher: "/admin/*", methods: ["POST", "PUT", "PATCH", "DELETE"], middlewares: [report] }],
}
