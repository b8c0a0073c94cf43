// The one function of Medusa that is called by name. Medusa is a peer: its types would be hundreds of packages.
declare module "@medusajs/framework/utils" {
  export function Module(name: string, definition: { service: unknown }): unknown
}
