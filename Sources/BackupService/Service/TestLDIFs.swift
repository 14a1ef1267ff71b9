package import LDAP
package import SystemPackage

/// The four LDIF records of the test flow (specification: contracts.md#test-records): add, modify, delete and remove one account.
package struct TestLDIFs: Sendable {
    /// One file of the four.
    package struct File: Hashable, Sendable {
        /// `01_add_UID.ldif` and so on.
        package var name: String
        /// What the file holds.
        package var record: LDIFRecord
        /// The whole text of the file.
        package var text: String
    }

    /// A value that cannot stand in an account's entry.
    package struct Invalid: Error, Hashable, CustomStringConvertible {
        /// The option's name, without hyphens.
        package var parameter: String
        /// What was wrong with it.
        package var reason: String
        /// What to write instead.
        package var hint: String
        /// One line for the terminal.
        package var description: String { "--\(parameter) \(reason); \(hint)" }
    }

    /// What the files differ in.
    package struct Parameters: Hashable, Sendable {
        /// Seven digits or more.
        package var uid: String
        /// Number of the reseller that the account belongs to.
        package var reseller: String
        /// Number of the customer that the account belongs to.
        package var customer: String
        /// Number of the person that the account belongs to.
        package var people: String
        /// Goes into cn and gecos.
        package var givenName: String
        /// Goes into cn and gecos.
        package var surname: String
        /// The directory of accounts in the directory.
        package var base: DN
        /// The directory of homes on the disk.
        package var homeRoot: FilePath
        /// The backup server that is to hold the account; nil leaves the attribute out.
        package var host: String?

        /// The defaults are those of the old command.
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
    }

    /// In the order in which they are loaded.
    package let files: [File]

    /// - Throws: `Invalid` for the first parameter that is wrong.
    package init(_ parameters: Parameters) throws(Invalid) {
        let uid = parameters.uid
        try Self.check(parameters)
        let dn = parameters.base.appending("uid", uid)
        files = [
            Self.file("01_add_\(uid).ldif", dn, .add(Self.account(parameters)), "the whole account, to be added"),
            Self.file(
                "02_modify_\(uid).ldif", dn,
                .modify(
                    Self.wish("modify") + [
                        .replace("sstQuota", "21474836480"), .replace("sstBackupIntervalDaily", "14"),
                    ]),
                "a greater quota and more daily snapshots"),
            Self.file(
                "03_delete_\(uid).ldif", dn, .modify([.replace("sstIsActive", "FALSE")] + Self.wish("delete")),
                "the account is no longer active and is to be deleted"),
            Self.file("04_remove_\(uid).ldif", dn, .delete, "the entry itself goes"),
        ]
    }

    private static func file(_ name: String, _ dn: DN, _ change: LDIFChange, _ comment: String) -> File {
        let record = LDIFRecord(dn: dn, change: change)
        return File(
            name: name, record: record,
            text: LDIFWriter.versionLine + LDIFWriter.comment(comment) + LDIFWriter.text(for: record))
    }

    private static func wish(_ mode: AttributeValue) -> [Modification] {
        [.replace("sstProvisioningMode", mode), .replace("sstProvisioningState", "0")]
    }

    private static func account(_ parameters: Parameters) -> [Attribute] {
        let uid = AttributeValue(parameters.uid)
        let name = AttributeValue("\(parameters.givenName) \(parameters.surname)")
        let home = HashedLayout.directories(uid: parameters.uid).reduce(parameters.homeRoot) { $0.appending($1) }
        let attributes: [(AttributeName, [AttributeValue])] = [
            (
                "objectClass",
                [
                    "top", "account", "posixAccount", "shadowAccount", "sstBackup", "sstProvisioning",
                    "sstRelationship",
                ]
            ),
            ("uid", [uid]), ("uidNumber", [uid]), ("gidNumber", [uid]), ("cn", [name]),
            ("gecos", [AttributeValue(gecos(parameters))]),
            ("homeDirectory", [AttributeValue("\(home)/chroot/./home/\(parameters.uid)")]), ("loginShell", ["/bin/sh"]),
            ("sstQuota", ["10737418240"]), ("sstBackupIntervalHourly", ["0"]), ("sstBackupIntervalDaily", ["7"]),
            ("sstBackupIntervalWeekly", ["4"]), ("sstBackupIntervalMonthly", ["3"]), ("sstBackupIntervalYearly", ["0"]),
            ("sstBackupWarningOn", ["TRUE"]), ("sstBackupWarningNumbers", ["0"]), ("sstBackupWarningDays", ["1"]),
            ("sstNotificationWarningLevel", ["85"]), ("sstNotificationWarningMedium", ["mail"]),
            ("sstUseSelfcare", ["TRUE"]), ("sstUseSSH", ["TRUE"]), ("sstIsActive", ["TRUE"]),
            ("sstBelongsToResellerUID", [AttributeValue(parameters.reseller)]),
            ("sstBelongsToCustomerUID", [AttributeValue(parameters.customer)]),
            ("sstBelongsToPersonUID", [AttributeValue(parameters.people)]), ("sstProvisioningMode", ["add"]),
            ("sstProvisioningState", ["0"]), ("sstProvisioningExecutionDate", ["0"]),
        ]
        return attributes.map { Attribute($0, $1) }
            + (parameters.host.map { [Attribute("host", [AttributeValue($0)])] } ?? [])
    }

    /// gecos is ASCII (IA5String, RFC 2307) and splits its fields at commas, and passwd splits at colons: cn has the name as it is.
    private static func gecos(_ parameters: Parameters) -> String {
        let name = "\(parameters.givenName) \(parameters.surname)"
        return String(name.unicodeScalars.map { $0.isASCII && $0 != "," && $0 != ":" ? Character($0) : "?" })
    }

    private static func check(_ parameters: Parameters) throws(Invalid) {
        guard let number = EntryReader.decimal(parameters.uid), BackupAccount.uidRange.contains(number) else {
            throw Invalid(
                parameter: "uid", reason: "is \(EntryReader.quote(parameters.uid))",
                hint: "write a number from \(BackupAccount.uidRange.lowerBound) to \(BackupAccount.uidRange.upperBound)"
            )
        }
        for (name, value) in [
            ("reseller", parameters.reseller), ("customer", parameters.customer), ("people", parameters.people),
        ] where EntryReader.decimal(value) == nil {
            throw Invalid(
                parameter: name, reason: "is \(EntryReader.quote(value))", hint: "write a number such as 4000000")
        }
        let texts = [("givenname", parameters.givenName), ("surname", parameters.surname)]
        for (name, value) in texts + (parameters.host.map { [("host", $0)] } ?? [])
        where value.isEmpty || value.utf8.count > 256 || value.unicodeScalars.contains(where: \.isControl) {
            throw Invalid(
                parameter: name, reason: "is \(EntryReader.quote(value))",
                hint: "write one line of text, no longer than 256 bytes")
        }
        let root = parameters.homeRoot
        guard root.isAbsolute, root.isLexicallyNormal, !root.components.isEmpty,
            !root.string.unicodeScalars.contains(where: \.isControl)
        else {
            throw Invalid(
                parameter: "home-root", reason: "is \(EntryReader.quote(root.string))",
                hint: "write an absolute directory such as /var/backup")
        }
    }
}
