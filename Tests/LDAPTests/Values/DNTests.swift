import LDAP
import Testing

@Suite("Distinguished names") struct DNTests {
    /// RFC 4514, section 4, and what OpenLDAP writes.
    @Test(
        "A name is read as RFC 4514 says",
        arguments: [
            ("UID=jsmith,DC=example,DC=net", [["UID": "jsmith"], ["DC": "example"], ["DC": "net"]]),
            ("OU=Sales+CN=J.  Smith,DC=example", [["OU": "Sales", "CN": "J.  Smith"], ["DC": "example"]]),
            (#"CN=James \"Jim\" Smith\, III,DC=net"#, [["CN": #"James "Jim" Smith, III"#], ["DC": "net"]]),
            (#"CN=Before\0dAfter,DC=net"#, [["CN": "Before\rAfter"], ["DC": "net"]]),
            (#"CN=Lu\C4\8Di\C4\87"#, [["CN": "Lučić"]]),
            (#"cn=a\2Cb\3Dc\2bd,dc=net"#, [["cn": "a,b=c+d"], ["dc": "net"]]),
            (#"cn=\20a\20 , dc = net "#, [["cn": " a "], ["dc": "net"]]),
            (#"cn=\ a\ "#, [["cn": " a "]]),
            (##"cn=\#a"##, [["cn": "#a"]]),
            ("cn=a#b=c", [["cn": "a#b=c"]]),
            ("cn=,dc=net", [["cn": ""], ["dc": "net"]]),
            ("", []),
        ] as [(String, [[String: String]])])
    func parsing(_ text: String, _ expected: [[String: String]]) throws {
        let name = try DN(parsing: text)
        let read = name.rdns.map { rdn in
            Dictionary(uniqueKeysWithValues: rdn.assertions.map { ($0.name.spelling, $0.value.text ?? "?") })
        }
        #expect(read == expected)
        let again = try DN(parsing: name.description)
        #expect(again == name)
        #expect(again.rdns.map(\.description) == name.rdns.map(\.description))
    }

    @Test("A value in hexadecimal is kept and written unchanged")
    func encodedValue() throws {
        let name = try DN(parsing: "1.3.6.1.4.1.1466.0=#04024869,dc=net")
        #expect(name.rdns[0].assertions[0].isEncoded)
        #expect(name.rdns[0].assertions[0].value.bytes == [4, 2, 0x48, 0x69])
        #expect(name.description == "1.3.6.1.4.1.1466.0=#04024869,dc=net")
        #expect(name == (try DN(parsing: "1.3.6.1.4.1.1466.0=#04024869 , DC=NET")))
        #expect(name != (try DN(parsing: ##"1.3.6.1.4.1.1466.0=\#04024869,dc=net"##)))
    }

    @Test(
        "A malformed name is refused with the position",
        arguments: [
            ("cn", 3), ("=x", 1), ("cn=a,", 6), ("cn=a,,dc=b", 6), ("cn=a+", 6), (",cn=a", 1), ("  ", 3),
            ("cn=a;dc=b", 5),
            (#"cn="a""#, 4), ("cn=<a", 4), ("cn=a>", 5), (#"cn=a\"#, 5), (#"cn=a\zb"#, 5), (#"cn=a\4"#, 6), ("cn=#", 5),
            ("cn=#0", 5), ("cn=#0x", 5), ("cn=#00x", 7), ("c_n=a", 2), ("cn;lang-de=a", 3), ("1..2=a", 1), ("-a=b", 1),
            ("cn=a\u{0}b", 5), ("cn=ä,ö", 6), ("cn=a,dc", 8),
        ])
    func malformed(_ text: String, _ position: Int) {
        let error = #expect(throws: LDAPSyntaxError.self) { try DN(parsing: text) }
        #expect(error?.position == position)
        #expect(error?.hint.isEmpty == false)
        #expect(error.map(String.init(describing:))?.contains("character \(position): ") == true)
    }

    @Test(
        "Case, spaces and the order of assertions do not distinguish names",
        arguments: [
            ("uid=Anna,DC=Example", "UID=anna, dc=example"), ("cn=J.  Smith", "CN=j. smith"), (#"cn=\20a\20"#, "cn=A"),
            ("cn=a+sn=b", "SN=B+CN=A"), (#"cn=\C3\84"#, "cn=ä"), ("cn=A\u{308}", "cn=\u{E4}"),
            (#"cn=a\,b"#, #"cn=a\2cb"#),
        ])
    func equality(_ left: String, _ right: String) throws {
        let (left, right) = (try DN(parsing: left), try DN(parsing: right))
        #expect(left == right)
        #expect(left.hashValue == right.hashValue)
    }

    @Test(
        "Different names are different",
        arguments: [
            (#"cn=a\,dc=b"#, "cn=a,dc=b"), (#"cn=a\+sn=b"#, "cn=a+sn=b"), ("cn=a,cn=b", "cn=b,cn=a"),
            ("cn=a b", "cn=ab"),
            (##"cn=\#00"##, "cn=#00"), (#"cn=\ff"#, #"cn=\fe"#), (#"cn=\ff"#, #"cn=\5cxff"#), ("cn=a", "sn=a"),
            ("", "cn="),
        ])
    func inequality(_ left: String, _ right: String) throws {
        #expect(try DN(parsing: left) != DN(parsing: right))
    }

    @Test("All values are escaped on output")
    func building() throws {
        let base = try DN(parsing: "dc=example,dc=net")
        let name = base.appending("ou", #" #a,b+c"d\e<f>;g=h "#).appending("uid", "#1\n\u{0}é")
        #expect(name.description == ##"uid=\#1\0a\00é,ou=\ #a\,b\+c\"d\\e\<f\>\;g\=h\ ,dc=example,dc=net"##)
        #expect(try DN(parsing: name.description) == name)
        #expect(base.appending("cn", " ").description == #"cn=\ ,dc=example,dc=net"#)
        let bytes = RDN("cn", AttributeValue(bytes: [0x61, 0xFF, 0xC3]))
        #expect(bytes.description == #"cn=a\ff\c3"#)
        #expect(try RDN(parsing: bytes.description).assertions[0].value.bytes == [0x61, 0xFF, 0xC3])
    }

    @Test(
        "A name is the same however it is written: plain, with spaces, or with escapes that it would not need",
        arguments: [
            ("uid=3723707,ou=accounts,dc=example", "UID=3723707 , ou = Accounts,dc=\\65xample"),
            ("cn=Anna  Maria,dc=x", "CN=anna maria , DC=X"), ("cn=,dc=x", "cn= ,dc=x"),
            ("cn=M\u{fc}ller,dc=x", "cn=m\\c3\\bcller,dc=x"), ("cn=a+sn=b,dc=x", "sn=b + cn=a,dc=x"),
        ])
    func spellings(one: String, other: String) throws {
        let (one, other) = (try DN(parsing: one), try DN(parsing: other))
        #expect(one == other)
        #expect(one.hashValue == other.hashValue)
        for name in [one, other] {
            let again = try DN(parsing: name.description)
            #expect(again == name)
            #expect(again.description == name.description)
            #expect(again.rdns == name.rdns)
            #expect(DN(rdns: name.rdns).description == name.description)
        }
    }

    @Test("Names that differ in one literal character differ")
    func different() throws {
        let names = try ["a=b,c=d", "a=b\\,c\\=d", "a=b\\\\,c=d", "a=b", "c=d,a=b", "a=\\#b,c=d", "a=#b0,c=d"].map {
            try DN(parsing: $0)
        }
        #expect(Set(names).count == names.count)
    }

    @Test("The tree: parent, descendant, root")
    func tree() throws {
        let base = try DN(parsing: "dc=example,dc=net")
        let child = base.appending("ou", "People")
        #expect(child.parent == base)
        #expect(base.parent?.parent == .root)
        #expect(DN.root.parent == nil && DN.root.isEmpty && DN.root.description.isEmpty)
        #expect(child.isDescendant(of: try DN(parsing: "DC=EXAMPLE, DC=NET")))
        #expect(child.isDescendant(of: .root))
        #expect(!base.isDescendant(of: base) && !base.isDescendant(of: child) && !DN.root.isDescendant(of: .root))
        #expect(!(try DN(parsing: #"ou=x\,dc=example,dc=net"#).isDescendant(of: base)))
        #expect(!(try DN(parsing: "ou=x,dc=myexample,dc=net").isDescendant(of: base)))
    }

    @Test("A relative name is one relative name")
    func relativeName() throws {
        #expect(try RDN(parsing: "uid=a+cn=b").assertions.count == 2)
        let error = #expect(throws: LDAPSyntaxError.self) { try RDN(parsing: "uid=a,dc=b") }
        #expect(error?.position == 6)
        #expect(throws: LDAPSyntaxError.self) { try RDN(parsing: "") }
        let several = RDN(.init("cn", "a"), [.init("sn", "b")])
        #expect(several == (try RDN(parsing: "SN=B+CN=A")))
        #expect(several.description == "cn=a+sn=b")
    }
}
