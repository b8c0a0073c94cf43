import { Module } from "@medusajs/framework/utils"
import EndcapService from "./service"

export default Module("endcap", { service: EndcapService })
