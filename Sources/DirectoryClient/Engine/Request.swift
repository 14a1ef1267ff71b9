import DirectoryModel

/// What is asked of the server, as values.
enum Request: Hashable, Sendable {
    case search(base: DN, scope: SearchScope, filter: Filter, attributes: [AttributeName], sizeLimit: Int)
    case add(Entry)
    case modify(DN, [Modification])
    case delete(DN)
    case rename(DN, to: RDN, deleteOldRDN: Bool, newSuperior: DN?)
    case bind(Credentials)
    case whoAmI
}

extension Request: CustomStringConvertible {
    /// The operation and what it is for, without values: they may be secret.
    var description: String {
        switch self {
        case .search(let base, .base, _, _, _): "read \(Self.name(base))"
        case .search(let base, _, let filter, _, _): "search \(Self.name(base)) \(Self.beginning(of: filter))"
        case .add(let entry): "add \(Self.name(entry.dn))"
        case .modify(let dn, _): "modify \(Self.name(dn))"
        case .delete(let dn): "delete \(Self.name(dn))"
        case .rename(let dn, let rdn, _, nil): "rename \(Self.name(dn)) to \(rdn)"
        case .rename(let dn, let rdn, _, let superior?): "rename \(Self.name(dn)) to \(rdn),\(superior)"
        case .bind(.simple(let dn, _)): "bind \(Self.name(dn))"
        case .bind(.external): "bind (SASL EXTERNAL)"
        case .bind(.anonymous): "bind (anonymous)"
        case .whoAmI: "who am I"
        }
    }

    /// Those of the accounts are longer than the rest of a message.
    private static func beginning(of filter: Filter) -> String {
        let text = "\(filter)"
        return text.count > 100 ? "\(text.prefix(100))…" : text
    }

    private static func name(_ dn: DN) -> String { dn.isEmpty ? "the root DSE" : dn.description }
}
