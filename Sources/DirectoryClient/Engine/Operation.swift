import DirectoryModel

/// A request on its way with everything that its answer needs.
struct Operation: Sendable {
    /// Where the answer goes.
    enum Reply: Sendable {
        /// All messages together, once.
        case once(CheckedContinuation<Result<Response, DirectoryError>, Never>)
        /// Each message as it comes.
        case stream(SyncStream)
    }

    var id: OperationTable.ID
    var request: Request
    var controls: [Control]
    /// When waiting for the answer ends; nil means never.
    var deadline: ContinuousClock.Instant?
    var reply: Reply

    func fail(_ error: DirectoryError) {
        switch reply {
        case .once(let continuation): continuation.resume(returning: .failure(error))
        case .stream(let stream): stream.finish(error)
        }
    }
}

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

/// One message of the server (RFC 4511, section 4.1.1), taken out of the library's memory.
enum Message: Hashable, Sendable {
    case entry(Entry, controls: [Control])
    case reference([String])
    case intermediate(identifier: String?, value: [UInt8]?)
    case result(Outcome)
}

/// The last message of an operation (RFC 4511, section 4.1.9).
struct Outcome: Hashable, Sendable {
    var code: ResultCode
    var matchedDN = ""
    var diagnostic = ""
    var referrals: [String] = []
    var controls: [Control] = []
    /// Of an extended response (RFC 4511, section 4.12).
    var identifier: String?
    var value: [UInt8]?
}

/// All messages of an operation that has ended.
struct Response: Hashable, Sendable {
    var entries: [Entry] = []
    var references: [String] = []
    var outcome = Outcome(code: .success)
}
