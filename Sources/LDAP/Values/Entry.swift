/// An attribute with its values, in the order in which they came.
public struct Attribute: Hashable, Sendable {
    /// The attribute's name, with its options.
    public var name: AttributeName
    /// The values; none when only names were asked for.
    public var values: [AttributeValue]

    /// An attribute of any number of values.
    public init(_ name: AttributeName, _ values: [AttributeValue]) {
        self.name = name
        self.values = values
    }
}

/// An entry of the directory as it was read, or as it is to be added.
public struct Entry: Hashable, Sendable {
    /// Where the entry stands in the tree.
    public var dn: DN
    /// The attributes, each name once.
    public var attributes: [Attribute]

    /// An entry with these attributes, each name once.
    public init(dn: DN, attributes: [Attribute] = []) {
        self.dn = dn
        self.attributes = attributes
    }

    /// All values of an attribute; empty when the entry does not have it. Setting none removes the attribute.
    public subscript(name: AttributeName) -> [AttributeValue] {
        get { attributes.first { $0.name == name }?.values ?? [] }
        set {
            let place = attributes.firstIndex { $0.name == name }
            switch (place, newValue.isEmpty) {
            case (let place?, true): attributes.remove(at: place)
            case (let place?, false): attributes[place].values = newValue
            case (nil, true): break
            case (nil, false): attributes.append(Attribute(name, newValue))
            }
        }
    }

    /// The first value of an attribute as text; nil when there is none or it is not text.
    public func text(_ name: AttributeName) -> String? { self[name].first?.text }
}
