import DirectoryModel

/// Who changed an entry last, and when, as the LDAP server recorded it (RFC 4512, section 3.4): before a claim that is who wrote the request, unless
/// somebody has changed the entry after that.
struct RequestOrigin: CustomStringConvertible {
    static let attributes: [AttributeName] = ["modifiersName", "modifyTimestamp"]

    /// `the request's entry was last changed by cn=selfcare,dc=example,dc=org at 20261129120000Z`
    let description: String

    init(_ entry: Entry) {
        let values = Self.attributes.map { entry[$0].first?.description }
        let name = values[0] ?? "somebody that the LDAP server does not name (access to modifiersName)"
        description = "the request's entry was last changed by \(name)" + (values[1].map { " at \($0)" } ?? "")
    }
}
