package import LDAP

/// What names an account to people and to scripts.
extension Entry {
    /// The attribute that does so in most entries.
    package static let nameAttribute: AttributeName = "uid"

    /// The uid if there is exactly one, else the first value of the relative name; nil if that is written in hexadecimal digits.
    package var nameValue: AttributeValue? {
        let uids = self[Self.nameAttribute]
        guard uids.count != 1 else { return uids.first }
        return dn.rdns.first?.assertions.first.flatMap { $0.isEncoded ? nil : $0.value }
    }

    /// ``nameValue`` as text, for lists and jobs; the DN where it is none.
    package var accountName: String {
        guard let text = nameValue?.text, !text.isEmpty else { return dn.description }
        return text
    }
}
