package import LDAP

/// The configuration that a site's LDAP server needs besides the schema, as LDIF for a running server with its configuration in cn=config, such as
/// Debian's: `example-config.ldif` and `example-tree.ldif` with the site's names.
package struct SiteLDIF: Sendable {
    /// The daemon's entry.
    package let daemonDN: DN
    /// The entry above the accounts.
    package let accountsDN: DN
    /// Change records, in the order of loading.
    package let records: [LDIFRecord]
    /// The change record that daemons which share accounts need besides.
    package let claimRecord: LDIFRecord

    /// - Parameters:
    ///   - base: the suffix of the site's database. Its entry exists.
    ///   - daemonDN: an entry below it; nil: as in the example.
    /// - Throws: ``SandboxError`` for invalid names, or missing files.
    package init(base: DN, daemonDN: DN? = nil, pieces: SandboxPieces) throws(SandboxError) {
        let shipped = try Names(base: Self.name(SandboxTree.suffix), daemon: Self.name(SandboxTree.daemonDN))
        let site = Names(
            base: base,
            daemon: daemonDN ?? DN(rdns: shipped.daemon.rdns.dropLast(shipped.base.rdns.count) + base.rdns))
        try site.check()
        let rename = Renaming(from: shipped, to: site)
        let config = try Self.read("example-config.ldif", pieces)
        let tree = try Self.read("example-tree.ldif", pieces).filter { $0.dn != shipped.base }
        func shippedEntry(_ dn: String) throws(SandboxError) -> Entry {
            let name = try Self.name(dn)
            guard let entry = config.first(where: { $0.dn == name }) else {
                throw Self.incomplete("example-config.ldif has no \(dn)")
            }
            return entry
        }
        func values(_ name: AttributeName, _ entry: Entry) -> [String] {
            entry[name].compactMap(\.text).map(rename.text)
        }
        let database = try shippedEntry("olcDatabase={1}mdb,cn=config")
        let configuration = try shippedEntry("olcDatabase={0}config,cn=config")
        var overlay = try shippedEntry("olcOverlay={0}syncprov,olcDatabase={1}mdb,cn=config")
        overlay.dn = database.dn.appending("olcOverlay", "syncprov")
        overlay["olcOverlay"] = ["syncprov"]
        let module = try Self.name("cn=module{0},cn=config")
        records =
            [
                LDIFRecord(dn: module, change: .modify([.add("olcModuleLoad", "syncprov")])),
                LDIFRecord(
                    dn: database.dn,
                    change: .modify([
                        Self.add("olcDbIndex", values("olcDbIndex", database).compactMap(Self.index)),
                        Self.add("olcLimits", values("olcLimits", database).map(Self.unnumbered)),
                        Self.add(
                            "olcAccess",
                            Self.numbered([Self.rootRule] + values("olcAccess", database).filter(Self.isOfService))),
                    ])),
                LDIFRecord(dn: overlay.dn, change: .add(overlay.attributes)),
                LDIFRecord(
                    dn: configuration.dn,
                    change: .modify([
                        Self.add(
                            "olcAccess",
                            Self.numbered(values("olcAccess", configuration).prefix(1).map(Self.continuing)))
                    ])),
            ] + tree.map(rename.entry).map { LDIFRecord(dn: $0.dn, change: .add($0.attributes)) }
        guard let claimRule = values("olcAccess", database).first(where: Self.isOfClaim) else {
            throw Self.incomplete("example-config.ldif has no rule for provisioningClaim")
        }
        // The first rule that fits an attribute decides, so it comes before those of the accounts and after root's.
        claimRecord = LDIFRecord(
            dn: database.dn, change: .modify([.add("olcAccess", AttributeValue("{1}" + Self.unnumbered(claimRule)))]))
        self.daemonDN = site.daemon
        accountsDN = rename.dn(try Self.name(SandboxTree.accountsDN))
    }

    /// Debian grants root everything over the socket, except in the database itself.
    private static let rootRule =
        "to * by dn.exact=gidNumber=0+uidNumber=0,cn=peercred,cn=external,cn=auth manage by * break"

    /// Debian has these indexes, and slapd rejects a second one.
    private static let debianIndexes: Set<Substring> = ["objectClass", "uid", "uidNumber", "gidNumber"]
}

// MARK: - The shipped pieces

extension SiteLDIF {
    private static func read(_ name: String, _ pieces: SandboxPieces) throws(SandboxError) -> [Entry] {
        let text = try TextFile.read(pieces.file(name))
        // slapadd's own directive.
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).filter { !$0.hasPrefix("include:") }
        var parser = LDIFParser(source: pieces.file(name).string)
        parser.append(lines.joined(separator: "\n").utf8)
        parser.finish()
        var entries: [Entry] = []
        do throws(LDAPSyntaxError) {
            while let record = try parser.next() {
                if case .content(let attributes) = record.change {
                    entries.append(Entry(dn: record.dn, attributes: attributes))
                }
            }
        } catch {
            throw incomplete("\(error)")
        }
        return entries
    }

    private static func incomplete(_ reason: String) -> SandboxError {
        SandboxError(.pieces, reason, hint: "take the file from the same version of the program")
    }

    private static func name(_ text: String) throws(SandboxError) -> DN {
        do { return try DN(parsing: text) } catch { throw incomplete("\(text) is no DN: \(error)") }
    }

    // MARK: Values of cn=config

    private static func add(_ name: AttributeName, _ values: [String]) -> Modification {
        Modification(.add, name, values.map { AttributeValue($0) })
    }

    private static func unnumbered(_ value: String) -> String {
        value.hasPrefix("{") ? String(value.drop { $0 != "}" }.dropFirst()) : value
    }

    private static func numbered(_ values: [String]) -> [String] {
        values.enumerated().map { "{\($0)}\(unnumbered($1))" }
    }

    /// Whether a rule is about the accounts and their service; other rules would affect other data of the site.
    private static func isOfService(_ rule: String) -> Bool {
        let subject = unnumbered(rule)
        return ["to dn.children=", "to dn.subtree="].contains(where: subject.hasPrefix) && !isOfClaim(rule)
    }

    private static func isOfClaim(_ rule: String) -> Bool { rule.contains("attrs=provisioningClaim") }

    /// Lets later rules of the site stay in effect.
    private static func continuing(_ rule: String) -> String {
        rule.hasSuffix("by * none") ? rule.dropLast("none".count) + "break" : rule
    }

    /// - Returns: nil if Debian has all of them.
    private static func index(_ value: String) -> String? {
        let words = value.split(separator: " ")
        let names = words.first?.split(separator: ",").filter { !debianIndexes.contains($0) } ?? []
        return names.isEmpty ? nil : "\(names.joined(separator: ",")) \(words.dropFirst().joined(separator: " "))"
    }
}

// MARK: - Names

/// The names that differ between sites.
private struct Names {
    var base: DN
    var daemon: DN

    /// Checks that the names are valid in an access rule, and that the daemon's entry is below the base.
    func check() throws(SandboxError) {
        for dn in [base, daemon] where dn.isEmpty || dn.description.contains(where: { "\"\\".contains($0) }) {
            throw SandboxError(
                .option, "\(String(reflecting: dn.description)) cannot be used in an access rule",
                hint: "name an entry without quotes and backslashes in its DN")
        }
        let rdn = daemon.rdns.first?.assertions ?? []
        guard daemon.isDescendant(of: base), rdn.count == 1, rdn.first?.name == "cn" else {
            throw SandboxError(
                .option, "the daemon's entry \(daemon) is no cn=... below \(base)",
                hint: "write one such as cn=prov-backup-rsnapshot,ou=programs,\(base)")
        }
    }
}

private struct Renaming {
    let from: Names
    let to: Names

    func text(_ value: String) -> String {
        value.replacing(from.daemon.description, with: to.daemon.description)
            .replacing(from.base.description, with: to.base.description)
    }

    func dn(_ dn: DN) -> DN {
        if dn == from.daemon { return to.daemon }
        return dn.isDescendant(of: from.base) ? DN(rdns: dn.rdns.dropLast(from.base.rdns.count) + to.base.rdns) : dn
    }

    func entry(_ entry: Entry) -> Entry {
        var renamed = entry
        renamed.dn = dn(entry.dn)
        if entry.dn == from.daemon { renamed["cn"] = to.daemon.rdns.first?.assertions.map(\.value) ?? [] }
        return renamed
    }
}
