import LDAP
import SystemPackage
import Testing

@testable import BackupService

@Suite struct TestLDIFsTests {
    @Test("the four files add, modify, delete and remove an account, and parse to the same records")
    func files() throws {
        let files = try TestLDIFs(uid: "3723707", givenName: "Zoë", surname: "Example", host: "backup1").files()
        #expect(files.map(\.name) == ["01_add", "02_modify", "03_delete", "04_remove"].map { $0 + "_3723707.ldif" })
        for file in files {
            var parser = LDIFParser(source: file.name) { _ in [] }
            parser.append(file.text.utf8)
            parser.finish()
            let record = try #require(try parser.next())
            #expect(record.dn == file.record.dn)
            #expect(record.change == file.record.change)
            #expect("\(record.dn)" == "uid=3723707,ou=accounts,ou=backup,ou=services,dc=stoney-cloud,dc=org")
            #expect(try parser.next() == nil)
        }
        guard case .modify(let changes) = files[1].record.change, case .modify(let deletion) = files[2].record.change
        else {
            Issue.record("02 and 03 are no modifications")
            return
        }
        #expect(
            changes.prefix(2) == [.replace("sstProvisioningMode", "modify"), .replace("sstProvisioningState", "0")])
        #expect(Set(changes.dropFirst(2).map(\.attribute)) == ["sstQuota", "sstBackupIntervalDaily"])
        #expect(
            deletion == [
                .replace("sstIsActive", "FALSE"), .replace("sstProvisioningMode", "delete"),
                .replace("sstProvisioningState", "0"),
            ])
        #expect(files[3].record.change == .delete)
    }

    @Test("the account that is added is one that is provisioned")
    func valid() throws {
        let file = try #require(try TestLDIFs(uid: "3723707", givenName: "Zoë", surname: "A, B").files().first)
        guard case .add(let attributes) = file.record.change else {
            Issue.record("01 is no addition")
            return
        }
        let entry = Entry(dn: file.record.dn, attributes: attributes)
        let account = try BackupAccount(reading: entry, for: .add, places: HomePlaces(roots: ["/var/backup"]))
        #expect(account.homes.first?.text == "/var/backup/7/707/723/3723707/chroot/./home/3723707")
        #expect(account.quota == 10 << 30)
        #expect(account.retention.levels == [.daily, .weekly, .monthly])
        #expect(entry.text("cn") == "Zoë A, B")
        #expect(entry.text("gecos") == "Zo? A? B")
        #expect(entry["objectClass"].count == 7)
        #expect(entry["host"].isEmpty)
    }

    @Test(
        "the error for a value that an entry cannot have names the parameter",
        arguments: [
            ("uid", TestLDIFs(uid: "12")), ("uid", .init(uid: "3723707\ndn: x")),
            ("reseller", .init(uid: "3723707", reseller: "x")), ("customer", .init(uid: "3723707", customer: "-1")),
            ("people", .init(uid: "3723707", people: "")), ("givenname", .init(uid: "3723707", givenName: "")),
            ("surname", .init(uid: "3723707", surname: "a\nuserPassword: x")),
            ("host", .init(uid: "3723707", host: "")), ("home-root", .init(uid: "3723707", homeRoot: "backup")),
        ])
    func invalid(parameter: String, parameters: TestLDIFs) throws {
        let error = try #require(throws: TestLDIFs.Invalid.self) { try parameters.files() }
        #expect(error.parameter == parameter)
        #expect(error.description.hasPrefix("--\(parameter) "))
    }
}
