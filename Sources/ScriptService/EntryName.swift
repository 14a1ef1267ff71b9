import LDAP
import Provisioning

/// The name of an entry as its scripts get it: its `uid` where it has just one, else the first value of its relative name.
struct EntryName: Hashable {
    /// Bytes of UTF-8; as much as a file's name may have.
    static let longest = 255

    static let attribute: AttributeName = "uid"

    let text: String

    /// - Throws: code 1 for a name that could be taken for an option, or break a line.
    init(of entry: Entry) throws(ProvisioningFailure) {
        let uids = entry[Self.attribute]
        let assertion = entry.dn.rdns.first?.assertions.first
        let value = uids.count == 1 ? uids.first : assertion.flatMap { $0.isEncoded ? nil : $0.value }
        guard let text = value?.text, !text.isEmpty else {
            throw Self.refusal(entry, "has no name that is text, neither in uid nor in its relative name")
        }
        guard !text.unicodeScalars.contains(where: \.isControl) else {
            throw Self.refusal(entry, "has a control character in its name \(text.quotedValue)")
        }
        guard !text.hasPrefix("-") else {
            throw Self.refusal(entry, "has the name \(text.quotedValue), which a program could take for an option")
        }
        guard text.utf8.count <= Self.longest else {
            throw Self.refusal(
                entry, "has a name of \(text.utf8.count) bytes, and scripts are given \(Self.longest) at most")
        }
        self.text = text
    }

    private static func refusal(_ entry: Entry, _ reason: String) -> ProvisioningFailure {
        ProvisioningFailure(
            .undefinedError, reason: "\(entry.dn) \(reason)",
            hint: "give the entry one uid of 1 to \(longest) bytes of plain text that begins with no hyphen")
    }
}
