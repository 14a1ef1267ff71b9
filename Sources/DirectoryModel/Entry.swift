/// An attribute with its values, in the order in which they came.
public struct Attribute: Hashable, Sendable {
    public var name: AttributeName
    public var values: [AttributeValue]

    public init(_ name: AttributeName, _ values: [AttributeValue]) {
        self.name = name
        self.values = values
    }
}

/// An entry of the directory as it was read, or as it is to be added.
public struct Entry: Hashable, Sendable {
    public var dn: DN
    public var attributes: [Attribute]

    public init(dn: DN, attributes: [Attribute] = []) {
        self.dn = dn
        self.attributes = attributes
    }

    /// All values of an attribute; empty when the entry does not have it.
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
