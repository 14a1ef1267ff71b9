import DirectoryModel

/// A control that goes with a request or came with a response (RFC 4511, section 4.1.11).
struct Control: Hashable, Sendable {
    var identifier: String
    var isCritical = false
    var value: [UInt8]?

    /// Carry the operation out only if the filter matches the entry, else answer assertionFailed (RFC 4528).
    /// - Returns: nil when the filter is malformed.
    static func assertion(_ filter: Filter) -> Control? {
        filter.encoded.map { Control(identifier: RootDSE.Feature.assertion.rawValue, isCritical: true, value: $0) }
    }

    /// Send the entry as it is afterwards (RFC 4527). Not critical: a server without it still carries the operation out.
    static func postRead(_ attributes: [AttributeName]) -> Control {
        let selection = attributes.flatMap { BER.element(BER.octets, $0.spelling) }
        return Control(identifier: RootDSE.Feature.postRead.rawValue, value: BER.element(BER.sequence, selection))
    }

    /// The next `size` entries behind `cookie` (RFC 2696). Critical: without it a server would send everything.
    static func page(size: Int, cookie: [UInt8]) -> Control {
        let value = BER.number(BER.integer, size) + BER.element(BER.octets, cookie)
        return Control(
            identifier: RootDSE.Feature.pagedResults.rawValue, isCritical: true, value: BER.element(BER.sequence, value)
        )
    }

    /// Tell what the password policy says of a bind (draft-behera-ldap-password-policy-11, section 6.1).
    static let passwordPolicy = Control(identifier: passwordPolicyIdentifier)

    fileprivate static let passwordPolicyIdentifier = "1.3.6.1.4.1.42.2.27.8.5.1"

    /// Content Synchronization (RFC 4533, section 2.2). Critical: without it the server would answer a plain search.
    static func syncRequest(_ mode: ContentSyncRequest.Mode, cookie: [UInt8]?) -> Control {
        var value = BER.number(BER.enumerated, mode.rawValue)
        if let cookie { value += BER.element(BER.octets, cookie) }
        return Control(
            identifier: RootDSE.Feature.contentSync.rawValue, isCritical: true, value: BER.element(BER.sequence, value))
    }
}

extension [Control] {
    /// The cookie for the next page; nil when this was the last one.
    func nextPage() throws(BERReader.Malformed) -> [UInt8]? {
        guard let bytes = value(of: RootDSE.Feature.pagedResults.rawValue) else { return nil }
        var reader = BERReader(bytes)
        var members = try reader.members(BER.sequence)
        _ = try members.number(BER.integer)
        let cookie = try members.content(BER.octets)
        return cookie.isEmpty ? nil : [UInt8](cookie)
    }

    /// The entry of a post-read response; nil when the server sent none.
    func postRead() throws(BERReader.Malformed) -> Entry? {
        guard let bytes = value(of: RootDSE.Feature.postRead.rawValue) else { return nil }
        return try Entry(encoded: bytes)
    }

    /// What the password policy says; nil when the server sent nothing, or nothing that can be understood: a bind does not depend on it.
    var passwordPolicy: PasswordPolicyResponse? {
        value(of: Control.passwordPolicyIdentifier).flatMap { try? PasswordPolicyResponse(encoded: $0) }
    }

    func value(of identifier: String) -> [UInt8]? { first(where: { $0.identifier == identifier })?.value }
}

extension Entry {
    /// A SearchResultEntry (RFC 4511, section 4.5.2) as it stands in the value of a control.
    init(encoded bytes: [UInt8]) throws(BERReader.Malformed) {
        var reader = BERReader(bytes)
        var members = try reader.members(Entry.resultTag)
        guard let name = String(validating: try members.content(BER.octets), as: UTF8.self) else {
            throw BERReader.Malformed()
        }
        let dn: DN
        do { dn = try DN(parsing: name) } catch { throw BERReader.Malformed() }
        self.init(dn: dn)
        var list = try members.members(BER.sequence)
        while !list.isAtEnd {
            var attribute = try list.members(BER.sequence)
            guard let type = String(validating: try attribute.content(BER.octets), as: UTF8.self) else {
                throw BERReader.Malformed()
            }
            var set = try attribute.members(BER.set)
            var values: [AttributeValue] = []
            while !set.isAtEnd { values.append(AttributeValue(bytes: try set.content(BER.octets))) }
            attributes.append(Attribute(AttributeName(unchecked: type), values))
        }
    }

    /// `[APPLICATION 4]`, constructed.
    static var resultTag: UInt8 { 0x64 }
}
