package import LDAP
import Provisioning
package import SystemPackage

/// The four LDIF files of the test flow (specification: contracts.md#test-records): add, modify, delete and remove one account.
package struct TestLDIFs: Hashable, Sendable {
    /// Seven digits or more.
    let uid: String
    let reseller: String
    let customer: String
    let people: String
    let givenName: String
    let surname: String
    /// The entry above the accounts.
    let base: DN
    /// The directory of homes on the disk.
    let homeRoot: FilePath
    /// The backup server of the account; nil leaves the attribute out.
    let host: String?

    package init(
        uid: String, reseller: String = "4000000", customer: String = "4000001", people: String = "4000002",
        givenName: String = "Givenname", surname: String = "Surname",
        base: DN = DN.root.appending("dc", "org").appending("dc", "stoney-cloud").appending("ou", "services")
            .appending("ou", "backup").appending("ou", "accounts"),
        homeRoot: FilePath = "/var/backup", host: String? = nil
    ) {
        self.uid = uid
        self.reseller = reseller
        self.customer = customer
        self.people = people
        self.givenName = givenName
        self.surname = surname
        self.base = base
        self.homeRoot = homeRoot
        self.host = host
    }

    /// A name such as `01_add_UID.ldif`, and the whole text.
    package typealias File = (name: String, record: LDIFRecord, text: String)

    /// A value that an account's entry cannot have.
    package struct Invalid: Error, Hashable, CustomStringConvertible {
        /// The option's name, without hyphens.
        var parameter: String
        var reason: String
        var hint: String
        /// One line for the terminal.
        package var description: String { "--\(parameter) \(reason); \(hint)" }
    }

    /// The files in the order in which they are loaded.
    /// - Throws: `Invalid` for the first wrong parameter.
    package func files() throws(Invalid) -> [File] {
        try check()
        let dn = base.appending("uid", uid)
        return [
            Self.file("01_add_\(uid).ldif", dn, .add(account), "the whole account, to be added"),
            Self.file(
                "02_modify_\(uid).ldif", dn,
                .modify(
                    Self.request("modify") + [
                        .replace("sstQuota", "21474836480"), .replace("sstBackupIntervalDaily", "14"),
                    ]),
                "a greater quota and more daily snapshots"),
            Self.file(
                "03_delete_\(uid).ldif", dn, .modify([.replace("sstIsActive", "FALSE")] + Self.request("delete")),
                "the account is no longer active and is to be deleted"),
            Self.file("04_remove_\(uid).ldif", dn, .delete, "the entry itself is removed"),
        ]
    }

    private static func file(_ name: String, _ dn: DN, _ change: LDIFChange, _ comment: String) -> File {
        let record = LDIFRecord(dn: dn, change: change)
        return (name, record, LDIFWriter.versionLine + LDIFWriter.comment(comment) + LDIFWriter.text(for: record))
    }

    private static func request(_ mode: AttributeValue) -> [Modification] {
        [.replace("sstProvisioningMode", mode), .replace("sstProvisioningState", "0")]
    }

    private var account: [Attribute] {
        let uid = AttributeValue(self.uid)
        let name = AttributeValue("\(givenName) \(surname)")
        let home = HomePlaces.hashed(self.uid, below: homeRoot)
        let attributes: [(AttributeName, [AttributeValue])] = [
            (
                "objectClass",
                [
                    "top", "account", "posixAccount", "shadowAccount", "sstBackup", "sstProvisioning",
                    "sstRelationship",
                ]
            ),
            ("uid", [uid]), ("uidNumber", [uid]), ("gidNumber", [uid]), ("cn", [name]),
            ("gecos", [AttributeValue(gecos)]),
            ("homeDirectory", [AttributeValue("\(home)/chroot/./home/\(self.uid)")]), ("loginShell", ["/bin/sh"]),
            ("sstQuota", ["10737418240"]), ("sstBackupIntervalHourly", ["0"]), ("sstBackupIntervalDaily", ["7"]),
            ("sstBackupIntervalWeekly", ["4"]), ("sstBackupIntervalMonthly", ["3"]), ("sstBackupIntervalYearly", ["0"]),
            ("sstBackupWarningOn", ["TRUE"]), ("sstBackupWarningNumbers", ["0"]), ("sstBackupWarningDays", ["1"]),
            ("sstNotificationWarningLevel", ["85"]), ("sstNotificationWarningMedium", ["mail"]),
            ("sstUseSelfcare", ["TRUE"]), ("sstUseSSH", ["TRUE"]), ("sstIsActive", ["TRUE"]),
            ("sstBelongsToResellerUID", [AttributeValue(reseller)]),
            ("sstBelongsToCustomerUID", [AttributeValue(customer)]),
            ("sstBelongsToPersonUID", [AttributeValue(people)]), ("sstProvisioningMode", ["add"]),
            ("sstProvisioningState", ["0"]), ("sstProvisioningExecutionDate", ["0"]),
        ]
        return attributes.map { Attribute($0, $1) }
            + (host.map { [Attribute("host", [AttributeValue($0)])] } ?? [])
    }

    /// gecos is ASCII (IA5String, RFC 2307) with fields separated by commas, in a file with fields separated by colons; cn has the whole name.
    private var gecos: String {
        let name = "\(givenName) \(surname)"
        return String(name.unicodeScalars.map { $0.isASCII && $0 != "," && $0 != ":" ? Character($0) : "?" })
    }

    private func check() throws(Invalid) {
        guard BackupAccount.isUID(uid) else {
            throw Invalid(
                parameter: "uid", reason: "is \(uid.quotedValue)",
                hint: "write a number from \(BackupAccount.uidRange.lowerBound) to \(BackupAccount.uidRange.upperBound)"
            )
        }
        for (name, value) in [
            ("reseller", reseller), ("customer", customer), ("people", people),
        ] where EntryReader.decimal(value) == nil {
            throw Invalid(
                parameter: name, reason: "is \(value.quotedValue)", hint: "write a number such as 4000000")
        }
        let texts = [("givenname", givenName), ("surname", surname)]
        for (name, value) in texts + (host.map { [("host", $0)] } ?? [])
        where value.isEmpty || value.utf8.count > 256 || value.unicodeScalars.contains(where: \.isControl) {
            throw Invalid(
                parameter: name, reason: "is \(value.quotedValue)",
                hint: "write one line of text, no longer than 256 bytes")
        }
        let root = homeRoot
        guard root.isAbsolute, root.isLexicallyNormal, !root.components.isEmpty,
            !root.string.unicodeScalars.contains(where: \.isControl)
        else {
            throw Invalid(
                parameter: "home-root", reason: "is \(root.string.quotedValue)",
                hint: "write an absolute directory such as /var/backup")
        }
    }
}
