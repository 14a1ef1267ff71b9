import LDAP
import Testing

@Suite("Reading LDIF") struct LDIFParserTests {
    private static let photo: LDIFParser.URLContents = { url in
        AttributeValue("content of \(url)").bytes
    }

    @Test("RFC 2849, examples 1 to 3: entries, folded lines, base64")
    func contents() throws {
        let entries = try records(LDIFExamples.twoEntries)
        #expect(entries.map(\.line) == [2, 14])
        #expect(entries[0].dn == (try DN(parsing: "cn=Barbara Jensen,ou=Product Development,dc=airius,dc=com")))
        #expect(
            entries[0].change
                == .content([
                    Attribute("objectClass", ["top", "person", "organizationalPerson"]),
                    Attribute("cn", ["Barbara Jensen", "Barbara J Jensen", "Babs Jensen"]),
                    Attribute("sn", ["Jensen"]), Attribute("uid", ["bjensen"]),
                    Attribute("telephoneNumber", ["+1 408 555 1212"]),
                    Attribute("description", ["A big sailing fan."]),
                ]))
        let folded = try #require(try records(LDIFExamples.foldedValue).first).contentEntry
        #expect(
            folded.text("description")
                == "Babs is a big sailing fan, and travels extensively in search of perfect sailing conditions.")
        #expect(folded.text("title") == "Product Manager, Rod and Reel Division")
        let encoded = try #require(try records(LDIFExamples.base64Value).first).contentEntry
        #expect(
            encoded.text("description")
                == "What a careful reader you are!  This value is base-64-encoded because it has a control character in it (a CR).\r  By the way, you should really get out more."
        )
    }

    @Test("RFC 2849, example 4: names in base64, attribute options, comments within a record, folded comments")
    func languages() throws {
        let entries = try records(LDIFExamples.languages).map(\.contentEntry)
        #expect(entries.map(\.dn.description) == ["ou=営業部,o=Airius", "uid=rogasawara,ou=営業部,o=Airius"])
        #expect(entries[0].text("ou") == "営業部")
        #expect(entries[0].text("OU;phonetic;lang-JA") == "えいぎょうぶ")
        #expect(entries[0].attributes.count == 6)
        #expect(entries[1].text("title;lang-en") == "Sales, Director")
        #expect(entries[1].attributes.count == 14)
    }

    @Test("RFC 2849, example 5: a value comes from a URL")
    func urls() throws {
        let entry = try #require(try records(LDIFExamples.externalFile, urlContents: Self.photo).first).contentEntry
        #expect(entry.text("jpegPhoto") == "content of file:///usr/local/directory/photos/hjensen.jpg")
        let refused = #expect(throws: LDAPSyntaxError.self) { try records(LDIFExamples.externalFile) }
        #expect(refused?.position == 11)
        #expect(refused?.reason.contains("values from URLs are not taken here") == true)
    }

    @Test("RFC 2849, examples 6 and 7: changes and a control")
    func changes() throws {
        let changes = try records(LDIFExamples.changes, urlContents: Self.photo)
        #expect(changes.map(\.line) == [3, 15, 19, 26, 36, 56])
        guard case .add(let attributes) = changes[0].change else { throw Unexpected() }
        #expect(attributes.last == Attribute("jpegphoto", ["content of file:///usr/local/directory/photos/fiona.jpg"]))
        #expect(
            changes.dropFirst().map(\.change) == [
                .delete,
                .rename(newRDN: RDN("cn", "Paula Jensen"), deleteOldRDN: true, newSuperior: nil),
                .rename(
                    newRDN: RDN("ou", "Product Development Accountants"), deleteOldRDN: false,
                    newSuperior: try DN(parsing: "ou=Accounting,dc=airius,dc=com")),
                .modify([
                    .add("postalAddress", "123 Anystreet $ Sunnyvale, CA $ 94086"), .delete("description"),
                    .replace("telephoneNumber", "+1 408 555 1234", "+1 408 555 5678"),
                    .delete("facsimileTelephoneNumber", "+1 408 555 9876"),
                ]),
                .modify([.replace("postalAddress"), .delete("description")]),
            ])
        let control = try records(LDIFExamples.control)
        #expect(control[0].controls == [Control("1.2.840.113556.1.4.805", isCritical: true)])
        #expect(control[0].change == .delete)
    }

    @Test(
        "A record is read in each form that the format has",
        arguments: [
            ("dn: cn=a\ncn: a", .content([Attribute("cn", ["a"])])),
            ("dn: cn=a\r\ncn: a\r\n\r\n", .content([Attribute("cn", ["a"])])),
            ("\n\n\nDN: cn=a\ncn: a\n\n\n\n", .content([Attribute("cn", ["a"])])),
            ("\u{FEFF}dn: cn=a\ncn: a\n", .content([Attribute("cn", ["a"])])),
            ("version: 1\n\ndn: cn=a\ncn: a\n", .content([Attribute("cn", ["a"])])),
            ("# c\n# d\n  e\nversion: 1\n# f\ndn: cn=a\ncn: a\n", .content([Attribute("cn", ["a"])])),
            ("d\n n:\n  cn\n =a\nc\n n: a\n  b\n", .content([Attribute("cn", ["a b"])])),
            ("dn: cn=a\ncn: a\n# c\n more of the comment\n", .content([Attribute("cn", ["a"])])),
            ("dn: cn=a\ncn: a\n# c\n\n", .content([Attribute("cn", ["a"])])),
            ("dn: cn=a\n", .content([])),
            ("dn:: Y249YQ==\ncn::YQ==\ncn::  Yg==\ncn::\ncn:\n", .content([Attribute("cn", ["a", "b", "", ""])])),
            (
                "dn: cn=a\ncn:   a  \nsn: :b\nou:  <c\n",
                .content([
                    Attribute("cn", ["a  "]), Attribute("sn", [":b"]), Attribute("ou", ["<c"]),
                ])
            ),
            (
                "dn: cn=a\ncn: Ä\ncn: b\nsn: c\nCN: d\n",
                .content([
                    Attribute("cn", ["Ä", "b", "d"]), Attribute("sn", ["c"]),
                ])
            ),
            ("dn: cn=a\nChangeType: ADD \ncn: a\n", .add([Attribute("cn", ["a"])])),
            ("dn: cn=a\nchangetype:: bW9kaWZ5\nadd: n\nn: 1", .modify([.add("n", "1")])),
            (
                "dn: cn=a\nchangetype: modify\nadd: n\nN: 1\n-\nincrement: n\nn: -5\n",
                .modify([
                    .add("n", "1"), Modification(.increment, "n", ["-5"]),
                ])
            ),
            (
                "dn: cn=a\nchangetype: modify\ndelete: cn;lang-de\n-\nreplace: add\nadd: 1\n- \n",
                .modify([
                    .delete("cn;lang-de"), .replace("add", "1"),
                ])
            ),
            ("dn: cn=a\nchangetype: modify\n", .modify([])),
            (
                "dn: cn=a\nchangetype: moddn\nnewrdn:: Y249Yg==\ndeleteoldrdn: 0\nnewsuperior:\n",
                .rename(newRDN: RDN("cn", "b"), deleteOldRDN: false, newSuperior: .root)
            ),
        ] as [(String, LDIFChange)])
    func forms(_ text: String, _ change: LDIFChange) throws {
        let record = try #require(try records(text).first)
        #expect(record.change == change)
        #expect(record.dn == (try DN(parsing: "cn=a")))
    }

    @Test(
        "A control line has criticality and value, or not",
        arguments: [
            ("1.2.3", Control("1.2.3")), ("1.2.3 false", Control("1.2.3")),
            ("1.2.3   TRUE ", Control("1.2.3", isCritical: true)),
            ("1.2.3: a b", Control("1.2.3", value: Array("a b".utf8))), ("1.2.3:", Control("1.2.3", value: [])),
            ("1.2.3 true: a", Control("1.2.3", isCritical: true, value: Array("a".utf8))),
            ("1.2.3 true:: AP8=", Control("1.2.3", isCritical: true, value: [0, 255])),
            ("1.2.3:< file:/x", Control("1.2.3", value: Array("content of file:/x".utf8))),
        ])
    func controls(_ text: String, _ control: Control) throws {
        let ldif = "dn: cn=a\ncontrol: \(text)\ncontrol: 9.9\nchangetype: delete\n"
        #expect(try records(ldif, urlContents: Self.photo).map(\.controls) == [[control, Control("9.9")]])
    }

    @Test("Joined files are one file, each with its version line")
    func joinedFiles() throws {
        let text = LDIFExamples.twoEntries + "\n" + LDIFExamples.control + "\nversion: 1"
        #expect(try records(text).count == 3)
        #expect(try records("").isEmpty && records("\n# nothing\n\n").isEmpty)
    }
}

extension LDIFRecord {
    /// The entry of a content record; one without attributes for another.
    fileprivate var contentEntry: Entry {
        if case .content(let attributes) = change { Entry(dn: dn, attributes: attributes) } else { Entry(dn: dn) }
    }
}

private struct Unexpected: Error {}
